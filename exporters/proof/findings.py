"""The results of a comparison in readable form: counts and the worst element of each class of probes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case

_MOST_VALUES = 64  # larger arrays are not written in full
_MOST_SHOWN = 16


def element(expected: npt.NDArray[Any], actual: npt.NDArray[Any], position: int) -> dict[str, Any]:
    """Return the index and both values of the element at ``position`` of the flattened arrays."""
    index = np.unravel_index(position, expected.shape)
    return {
        "index": [int(place) for place in index],
        "source": plain(expected[index]),
        "artefact": plain(actual[index]),
    }


def plain(value: Any) -> bool | int | float | str:
    """Convert a number to JSON: floats with seven significant digits, NaN and infinity as text."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(f"{float(value):.7g}") if np.isfinite(value) else str(float(value))


def by_class(cases: Sequence[Case], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Class of probes → the number of its cases and rows, whether all passed, and the worst element.

    The worst element is that of the first failing case, or, if all pass, the element nearest to its
    tolerance.
    """
    found: dict[str, Any] = {}
    for case, report in zip(cases, reports, strict=True):
        entry = found.setdefault(case.kind, {"cases": 0, "rows": 0, "passed": True, "worst": None})
        entry["cases"] += 1
        entry["rows"] += rows(case.inputs)
        worst = _worst(report)
        if entry["passed"] and (not report["passed"] or _further(worst, entry["worst"])):
            entry["worst"] = worst
        entry["passed"] = entry["passed"] and report["passed"]
    return found


def rows(inputs: Arrays) -> int:
    """Return the length of the first axis of the first input that has one; 1 if none has one."""
    return next((len(array) for array in inputs.values() if array.ndim), 1)


def _worst(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the failing output of one case.

    If all pass, return the output whose element is nearest to its tolerance.
    """
    if "error" in report:
        return {"case": report["case"], "error": report["error"]}
    worst: dict[str, Any] | None = None
    for name, output in report["outputs"].items():
        found = {"case": report["case"], "output": name, "max_abs": output["max_abs"]}
        found |= output["worst"] or {}
        if not output["passed"]:
            return found | {"reason": output["reason"]}
        if worst is None or _further(found, worst):
            worst = found
    return worst or {"case": report["case"]}


def _further(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    return other is None or one.get("share_of_tolerance", 0.0) > other.get("share_of_tolerance", 0.0)


def array_as_json(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the array's dtype, shape and values; for a large array, the first 16 that are not zero."""
    known = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size <= _MOST_VALUES:
        return known | {"values": _nested(array)}
    places = np.argwhere(array != 0)
    shown = [{"index": place.tolist(), "value": plain(array[tuple(place)])} for place in places[:_MOST_SHOWN]]
    return known | {"not_zero": len(places), "first_not_zero": shown}


def array_as_text(array: npt.NDArray[Any]) -> str:
    if array.size <= _MOST_SHOWN:
        return str(_nested(array)).replace("'", "")
    places = np.argwhere(array != 0)
    kind = f"{array.dtype}{list(array.shape)}"
    if not len(places):
        return f"zeros, {kind}"
    if len(places) > 4:
        return f"{kind} with {len(places)} values that are not zero"
    values = ", ".join(f"{plain(array[tuple(place)])} at {place.tolist()}" for place in places)
    return f"{kind}, zero but for {values}"


def _nested(array: npt.NDArray[Any]) -> Any:
    return [_nested(part) for part in array] if array.ndim else plain(array[()])
