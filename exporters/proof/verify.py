"""Compare an artefact with its source model.

An output agrees when every element does::

    |artefact - source| <= rtol * |source| + atol * scale

with the tolerance of its dtype, or of the precision that the artefact computes in. The scale is the largest
number of the element's row. Small numbers, like the probabilities of a softmax, are therefore compared
strictly, and a row beside one that is 100,000 times as large is compared as if it were alone. The scale is at
least that of a usual row (``usual``), because a sum near zero carries the rounding of its parts. If each
column has a unit of its own (``Source.units``), the scale is a usual number of the column. For an output with
three or more axes it is the scale of the element's channel (axis 1 or the last, whichever scale is less), so
that a detector's scores are not compared on the scale of its boxes' pixels. NaN and infinity must be in the
same places. An output that has no finite number in any case fails.

A label is compared if the source's scores determine it. If the two best scores differ by no more than the
tolerance, either label is accepted: the same votes of a forest, added in float32 and in float64, differ in
the last digit. The number of such labels is reported. The label of a third class is still an error.
"""

import platform
from collections.abc import Callable, Container, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import EMPTY, FAILED, NOT_EXECUTED, VERIFIED, Arrays, Case, Derived, Labels, copied
from ..errors import as_limit
from . import findings

TOLERANCES: dict[str, tuple[float, float]] = {  # dtype or precision → rtol, atol
    "int8": (5e-2, 5e-2),
    "bfloat16": (2**-7, 2**-7),  # one step: bfloat16 has eight binary digits
    "float16": (1e-2, 5e-3),
    "float32": (1e-3, 1e-4),
    "float64": (1e-6, 1e-8),
}
_REASONS = {
    "int8": "weights or activations in 8 bits have 256 levels, and each layer adds its rounding",
    "bfloat16": "bfloat16 has 8 significant bits, and a runtime without its operators computes in float32",
    "float16": "float16 has 11 significant bits, one part in 2,048, and each layer adds its rounding",
    "float32": "runtimes add up float32 numbers in different orders, which changes their last digits",
    "float64": "runtimes add up float64 numbers in different orders, or pass them on as float32",
}
_TOOLS = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "tensorrt",
    "coremltools",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "numpy",
)
# An all-zero output counts as zero below this: the noise of one float32 accumulation.
_ZERO = 1e-6
_NONE: Derived = {}
_NO_NUMBER = "every output of the source is NaN or infinity, so nothing can be compared"
_EMPTY = "it is empty, so nothing was compared"
_USUAL = ("base", "typical", "sizes", "samples")  # classes of cases
Usual = Mapping[str, "float | npt.NDArray[np.float64]"]
_NOT_KNOWN: Usual = {}
_LEAST_UNIT = 1e-9  # of the row's largest number: the float64 rounding in a difference of such numbers
_LEAST_PART = 1e-2  # of the output's largest number: the smallest scale of a channel


def compare(
    cases: Sequence[Case],
    predict: Callable[[Arrays], Arrays],
    precision: str | None = None,
    labels: Mapping[str, Labels] = {},
    derived: Derived = _NONE,
    run_by: str = "the source model in eager mode",
    units: Container[str] = (),
) -> dict[str, Any]:
    """Return the content of fidelity.json except the tools: differences per case and output, verdict.

    ``precision`` is the artefact's computing precision, a key of TOLERANCES; None means each output's dtype.
    ``labels``, ``derived``, ``run_by`` and ``units`` are those of ``Source``. An artefact that fails to run a
    case is ``failed`` with its error; no exception is raised.
    """
    reports = []
    magnitudes = usual(cases, units)
    for case in cases:
        shapes = {name: list(array.shape) for name, array in case.inputs.items()}
        report: dict[str, Any] = {"case": case.name, "class": case.kind, "input_shapes": shapes}
        try:
            actual = predict(copied(case.inputs))
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            # metadata.json allows no empty batch: an artefact may reject it, but not return wrong outputs.
            report |= {"error": str(exc).strip()[:500], "outputs": {}, "passed": case.kind == EMPTY}
        else:
            report["outputs"] = compare_outputs(case.expected, actual, precision, labels, derived, magnitudes)
            report["passed"] = all(output["passed"] for output in report["outputs"].values())
        reports.append(report)
    _require_a_number(reports)
    passed = bool(reports) and all(report["passed"] for report in reports)
    return {
        "verdict": VERIFIED if passed else FAILED,
        "reference": run_by,
        "precision": precision,
        "tolerance": {
            name: {"rtol": rtol, "atol": atol, "reason": _REASONS[name]}
            for name, (rtol, atol) in TOLERANCES.items()
        },
        "outputs": _worst(reports),
        "probes": findings.by_class(cases, reports),
        "cases": reports,
    }


def usual(cases: Sequence[Case], units: Container[str] = ()) -> Usual:
    """Return the magnitude of each output in a usual row: the median of the rows' largest non-zero numbers.

    For an output of ``units``, float64[columns]: the median of each column.
    """
    found: dict[str, float | npt.NDArray[np.float64]] = {}
    for name in cases[0].expected if cases else ():
        arrays = [case.expected[name] for case in cases if case.kind in _USUAL and name in case.expected]
        if name in units and all(array.ndim == 2 for array in arrays):
            rows = np.concatenate(arrays)
            found[name] = np.array([_median(column) for column in np.abs(rows.astype(np.float64)).T])
        else:
            found[name] = _median(np.concatenate([_largest_of_rows(array) for array in arrays or [_NO_ROWS]]))
    return found


_NO_ROWS: npt.NDArray[np.float64] = np.empty(0)


def _largest_of_rows(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if not array.size:
        return _NO_ROWS
    magnitude = np.abs(np.where(np.isfinite(array), array, 0).astype(np.float64))
    return np.asarray(magnitude.reshape(len(array) if array.ndim else 1, -1).max(axis=1, initial=0.0))


def _median(numbers: npt.NDArray[np.float64]) -> float:
    """Return the median of the finite numbers that are not zero; 0 if there is none."""
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    return float(np.median(numbers)) if numbers.size else 0.0


def not_executed(reason: str) -> dict[str, Any]:
    """Return the content of fidelity.json for an artefact that does not run here."""
    return {"verdict": NOT_EXECUTED, "reason": reason, "outputs": {}, "probes": {}, "cases": []}


def compare_outputs(
    expected: Arrays,
    actual: Mapping[str, npt.NDArray[np.generic]],
    precision: str | None = None,
    labels: Mapping[str, Labels] = {},
    derived: Derived = _NONE,
    usual: Usual = _NOT_KNOWN,
) -> dict[str, Any]:
    """Return, per output: max_abs, max_rel, cosine, top1_agreement (None if meaningless), passed, reason.

    ``labels_not_judged`` is present if it is not 0. A derived output has ``rows_compared``, the number of
    rows that are not zero. ``usual`` is the result of the function of that name; without it, these rows
    determine the scale.
    """
    reports = {}
    for name, array in expected.items():
        if name in derived:
            reports[name] = _compare_derived(name, actual, precision, derived)
            continue
        found, label = actual.get(name), labels.get(name)
        # A file may declare any classes
        if label is None or expected[label.scores].shape[1] != len(label.classes):
            reports[name] = _compare(array, found, precision, usual.get(name))
            continue
        best, classes = best_classes(expected[label.scores], precision), np.array(label.classes)
        tied = (best.sum(axis=1) > 1) & (best & (array[:, None] == classes)).any(axis=1)
        if found is not None and found.shape == array.shape:
            right = tied & (best & (found[:, None] == classes)).any(axis=1)
            array = np.where(right, found, array).astype(array.dtype)
        reports[name] = _compare(array, found, precision, usual.get(name))
        if tied.any():
            reports[name]["labels_not_judged"] = int(tied.sum())
    for name in sorted(set(actual) - set(expected)):
        reports[name] = _refused("the source has no such output")
    return reports


def _compare_derived(
    name: str, actual: Mapping[str, npt.NDArray[Any]], precision: str | None, derived: Derived
) -> dict[str, Any]:
    """Compare an output with the value that follows from the artefact's other outputs."""
    found = actual.get(name)
    try:
        array = derived[name](actual)
    except (KeyError, ValueError) as exc:
        return _refused(f"the outputs that it is computed from are wrong: {exc}")
    if found is not None and found.shape == array.shape:
        array, found = _ordered(array), _ordered(found)
    return {**_compare(array, found, precision), "rows_compared": int(array.any(axis=-1).sum())}


def _ordered(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sort the rows: rows of equal scores may come in any order."""
    return np.stack([one[np.lexsort(one.T)] for one in rows]) if len(rows) else rows


def best_classes(scores: npt.NDArray[np.generic], precision: str | None = None) -> npt.NDArray[np.bool_]:
    """Mark, for ``float[N, classes]``, the classes whose scores equal the row's best within the tolerance.

    A row with a score that is not finite has none.
    """
    rtol, atol = TOLERANCES.get(precision or str(scores.dtype), (0.0, 0.0))
    finite = np.isfinite(scores)
    wide = np.where(finite, scores, 0).astype(np.float64)
    best = wide.max(axis=1, keepdims=True)
    near = best - wide <= rtol * np.abs(best) + atol * np.abs(wide).max(initial=0)
    found: npt.NDArray[np.bool_] = near & finite.all(axis=1, keepdims=True)
    return found


def tools() -> dict[str, str]:
    """Return the versions of the tools that created and checked the artefact."""
    found = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _require_a_number(reports: Sequence[dict[str, Any]]) -> None:
    """Fail the outputs that are empty, or only NaN and infinity, in every case."""
    for name in dict.fromkeys(name for report in reports for name in report["outputs"]):
        found = [report for report in reports if name in report["outputs"]]
        if all(report["outputs"][name]["reason"] in (_NO_NUMBER, _EMPTY) for report in found):
            for report in found:
                report["outputs"][name]["passed"] = report["passed"] = False


def _compare(
    expected: npt.NDArray[Any],
    actual: npt.NDArray[Any] | None,
    precision: str | None,
    usual: float | npt.NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    if actual is None:
        return _refused("the artefact has no such output")
    if actual.shape != expected.shape:
        return _refused(f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    if actual.dtype != expected.dtype:
        return _refused(f"dtype {actual.dtype} instead of {expected.dtype}")
    if expected.size == 0:
        return _refused(_EMPTY) | {"passed": True}
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], actual[~finite], equal_nan=expected.dtype.kind == "f"):
        same = (expected == actual) | ((expected != expected) & (actual != actual))
        worst = findings.element(expected, actual, int(np.argmin(finite | same)))
        return _refused("NaN or infinity, but the source has another value", worst)
    if not np.isfinite(actual[finite]).all():
        worst = findings.element(expected, actual, int(np.argmax(finite & ~np.isfinite(actual))))
        return _refused("NaN or infinity, but the source has a number", worst)
    if not finite.any():
        return _refused(_NO_NUMBER) | {"passed": True}
    source = expected[finite].astype(np.float64)
    difference = np.abs(actual[finite].astype(np.float64) - source)
    scale = _scale(np.where(finite, expected, 0).astype(np.float64), usual)[finite]
    rtol, atol = TOLERANCES.get(precision or str(expected.dtype), (0.0, 0.0))
    absolute = np.where(scale > 0, atol * scale, _ZERO)
    allowed = rtol * np.abs(source) + absolute
    if expected.dtype.kind == "f":
        within = bool((difference <= allowed).all())
        shares = difference / np.maximum(allowed, 1e-300)
    else:
        within = np.array_equal(expected, actual)
        shares = difference
    furthest = int(np.argmax(shares))
    worst = findings.element(expected, actual, int(np.flatnonzero(finite)[furthest]))
    if expected.dtype.kind == "f":
        worst["share_of_tolerance"] = _short(min(shares[furthest], 1e300))
    return {
        "max_abs": _short(difference.max()),
        "max_rel": _short((difference / np.maximum(np.abs(source), np.maximum(absolute, 1e-30))).max()),
        "cosine": _cosine(source, actual[finite].astype(np.float64)),
        "top1_agreement": _top1(expected, actual),
        "passed": within,
        "reason": None if within else "the difference is larger than the tolerance",
        "worst": worst,
    }


def _scale(
    source: npt.NDArray[np.float64], usual: float | npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Return the magnitude that each element's difference is compared with, in the source's shape."""
    magnitude = np.abs(source)
    if source.ndim < 3:
        rows = _largest_of_rows(source).reshape(-1, *[1] * (source.ndim - 1))
        if isinstance(usual, np.ndarray) and source.shape[1:] == usual.shape:
            return np.maximum(np.maximum(magnitude, usual), _LEAST_UNIT * rows)
        if usual is None or isinstance(usual, np.ndarray):
            usual = _median(rows.ravel())
        return np.broadcast_to(np.maximum(rows, usual), source.shape) if source.ndim else magnitude
    whole = magnitude.max()
    channels = [
        magnitude.max(axis=tuple(other for other in range(source.ndim) if other != axis), keepdims=True)
        for axis in (1, source.ndim - 1)
    ]
    # A channel of almost only zeros still carries the rounding of the numbers that it was computed from.
    return np.broadcast_to(np.maximum(np.minimum(*channels), _LEAST_PART * whole), source.shape)


def _refused(reason: str, worst: dict[str, Any] | None = None) -> dict[str, Any]:
    empty = dict.fromkeys(("max_abs", "max_rel", "cosine", "top1_agreement"))
    return {**empty, "passed": False, "reason": reason, "worst": worst}


def _cosine(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float | None:
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return round(float(left @ right) / norm, 6) if norm else None


def _top1(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float | None:
    """Return the share of rows whose largest element is at the same index.

    The arrays are scores, ``float[..., classes]``; None for other arrays.
    """
    if expected.dtype.kind != "f" or expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    return round(float(np.mean(expected.argmax(-1) == actual.argmax(-1))), 6)


def _short(value: Any) -> float:
    """Round to three digits: more digits are noise that differs between machines."""
    return float(f"{float(value):.2e}")


def _worst(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return, per output, the worst of all cases."""
    names = dict.fromkeys(name for report in reports for name in report["outputs"])
    summary = {}
    for name in names:
        found = [report["outputs"][name] for report in reports if name in report["outputs"]]
        summary[name] = {
            "max_abs": max((one["max_abs"] for one in found if one["max_abs"] is not None), default=None),
            "max_rel": max((one["max_rel"] for one in found if one["max_rel"] is not None), default=None),
            "cosine": min((one["cosine"] for one in found if one["cosine"] is not None), default=None),
            "top1_agreement": min(
                (one["top1_agreement"] for one in found if one["top1_agreement"] is not None), default=None
            ),
            "passed": all(one["passed"] for one in found),
        }
        if "rows_compared" in found[0]:
            summary[name]["rows_compared"] = sum(one.get("rows_compared", 0) for one in found)
        if not_judged := sum(one.get("labels_not_judged", 0) for one in found):
            summary[name]["labels_not_judged"] = not_judged
    return summary
