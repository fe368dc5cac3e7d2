"""Describe a failed verification: class of probes, smallest failing input, both outputs, advice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import registry
from ..base import ESTIMATOR, ONNX, Artefact, Case, Source
from ..formats import onnx_doubles
from ..runners import Runner
from . import verify
from .findings import array_as_json, array_as_text
from .shrink import Failure, Shrinker

_ADVICE = {
    "missing": "Replace missing values before the model, for example by a SimpleImputer in its pipeline",
    "sizes": "Declare the axis with a fixed size",
}


def describe(
    source: Source,
    all_cases: Sequence[Case],
    format_name: str,
    artefact: Artefact,
    runner: Runner,
    fidelity: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the first failing case as JSON, with the smallest failing input and a ``message``."""
    case, report = next(
        (case, report)
        for case, report in zip(all_cases, fidelity["cases"], strict=True)
        if not report["passed"]
    )
    name = next((name for name, output in report["outputs"].items() if not output["passed"]), None)
    usual = verify.usual(all_cases, source.units)

    def check(expected: Any, actual: Any) -> str | None:
        found = verify.compare_outputs(
            expected, actual, artefact.precision, source.labels, source.derived, usual
        )
        failed = (key for key, one in found.items() if not one["passed"] and name in (None, key))
        return next((found[key]["reason"] for key in failed), None)

    found = Shrinker(source, runner.predict, check).smallest(case, _row(report, name))
    nan = found is not None and any(
        array.dtype.kind == "f" and np.isnan(array).any() for array in found.inputs.values()
    )
    advice = _advice(source, format_name, artefact, "missing" if nan else case.kind)
    classes = [kind for kind, one in fidelity["probes"].items() if not one["passed"]]
    failure: dict[str, Any] = {"class": case.kind, "classes": classes, "case": case.name, "output": name}
    failure["advice"] = advice
    shown = ""
    if found is not None:
        name = name or next(iter(found.expected))
        failure |= _as_json(found, name)
        shown = _as_text(found, name)
    others = f" Probes that fail: {', '.join(classes)}." if len(classes) > 1 else ""
    failure["message"] = f"{_difference(report)}{others} {shown}{_KEPT} {advice}"
    return failure


_KEPT = "Its package can be downloaded for diagnosis, but not deployed."


def _difference(report: Mapping[str, Any]) -> str:
    if "error" in report:
        return f"The artefact fails on inputs that its source accepts ({report['case']}): {report['error']}"
    name, output = next((name, one) for name, one in report["outputs"].items() if not one["passed"])
    distance = f", by {output['max_abs']}" if output["max_abs"] is not None else ""
    return (
        f"The artefact does not behave like its source: output {name!r} ({report['case']}) is "
        f"{output['reason']}{distance}."
    )


def _row(report: Mapping[str, Any], name: str | None) -> int | None:
    worst = report["outputs"][name]["worst"] if name is not None else None
    return worst["index"][0] if worst and worst["index"] else None


def _as_json(found: Failure, output: str) -> dict[str, Any]:
    return {
        "inputs": {name: array_as_json(array) for name, array in found.inputs.items()},
        "source_answers": array_as_json(found.expected[output]),
        "artefact_answers": _answer(found, output, array_as_json),
    }


def _as_text(found: Failure, output: str) -> str:
    inputs = ", ".join(f"{name} = {array_as_text(array)}" for name, array in found.inputs.items())
    answer = _answer(found, output, array_as_text) or f"fails ({found.reason})"
    return (
        f"The smallest failing input that was found: {inputs}; for {output!r} the source returns "
        f"{array_as_text(found.expected[output])}, the artefact {answer}. "
    )


def _answer(found: Failure, output: str, show: Any) -> Any:
    actual: npt.NDArray[Any] | None = (found.actual or {}).get(output)
    return None if actual is None else show(np.asarray(actual))


def _advice(source: Source, format_name: str, artefact: Artefact, kind: str) -> str:
    """Return what the user can try, with the most promising remedy first."""
    if artefact.precision is not None:
        return "Export with a higher precision: fp32."
    others = [
        spec.name
        for spec in registry.specifications()
        if spec.name != format_name and spec.runs_on is None and registry.steps(spec.name, source.family)
    ]
    if source.family == ESTIMATOR and "pickle" in others:
        instead = "export pickle, which runs the estimator itself"
    else:
        instead = f"export another format ({', '.join(others[:4])})" if others else "report it as a bug"
    if source.family == ESTIMATOR and source.inputs[0].dtype == "float64" and format_name == ONNX:
        narrow = ", ".join(artefact.details["float32_operators"])
        return (f"onnxruntime computes {narrow} in float32. " if narrow else "") + onnx_doubles.ADVICE
    if kind in _ADVICE:
        return f"{_ADVICE[kind]}, or {instead}."
    return f"{instead[0].upper()}{instead[1:]}."
