"""metadata.json: the description of a package for wrappers and servers.

``performance`` is measured on the machine that created the package. Everything else is equal for equal
inputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from . import wrappers
from .base import Artefact, Case, Source, TensorSpec
from .request import ExportRequest


def describe(
    request: ExportRequest,
    source: Source,
    artefact: Artefact,
    outputs: Sequence[TensorSpec],
    golden: Case,
    performance: Mapping[str, Any],
    independent_rows: bool | None,
    unbounded: Sequence[str] | None,
) -> dict[str, Any]:
    """Return the document. ``input_spec`` is the first of ``input_specs``: most models have one input.

    ``independent_rows``: the result of ``independence.rows_are_independent``; None: the artefact did not run.
    ``unbounded``: the result of ``bounded_cost.unbounded``; None: it is no ONNX.
    """
    model = request.model
    inputs = [_input(spec, source, request.preprocessing) for spec in source.inputs]
    dtypes = {spec.dtype for spec in source.inputs}
    dynamic = {
        name: {"min": size.minimum, "max": size.maximum, "multiple": size.multiple}
        for name, size in source.dimensions.items()
    }
    return {
        "model_info": {
            "model_name": model.get("name"),
            "version": model.get("version"),
            "framework": model.get("framework"),
            "task_type": model.get("task_type"),
            "export_format": request.format,
            "source_format": source.kind,
            "source_checksum": model.get("checksum"),
        },
        "preprocessing": request.preprocessing,
        "postprocessing": request.postprocessing,
        "input_spec": inputs[0],
        "input_specs": inputs,
        "output_spec": {
            spec.name: {**spec.to_json(), **_meaning(spec, request.postprocessing, first=not number)}
            for number, spec in enumerate(outputs)
        },
        "table": source.table.describe(source) if source.table is not None else None,
        "vectorizer": source.texts.describe(source.inputs[0].name) if source.texts is not None else None,
        "dynamic_axes": dynamic,
        "batch": {
            "dynamic": "batch" in dynamic,
            "size": _batch(source, golden),
            "independent_rows": independent_rows,
        },
        "example_shapes": {name: list(array.shape) for name, array in golden.inputs.items()},
        "classes": [{"id": index, "name": name} for index, name in enumerate(request.classes)]
        if request.classes
        else None,
        "artefact": {"files": list(artefact.files), "converter": artefact.converter, **artefact.details},
        "cost": None
        if unbounded is None
        else {"bounded": not unbounded, "unbounded_operators": list(unbounded)},
        "performance": dict(performance),
        "runtime_wrappers": wrappers.paths(request.format, dtypes),
        "runtime_wrappers_unavailable": wrappers.why_not(request.format, dtypes),
    }


def _input(spec: TensorSpec, source: Source, declared: Mapping[str, Any] | None) -> Mapping[str, Any]:
    layout = "NCHW" if len(spec.shape) == 4 else None
    if declared is not None and "format" in declared:
        layout = "NHWC" if declared["embedded"] else declared["format"]["output_layout"]
    return {
        **spec.to_json(),
        "format": layout,
        "integer_range": source.integers.get(spec.name),
        "missing": source.missing,
    }


def _meaning(spec: TensorSpec, declared: Mapping[str, Any] | None, first: bool) -> dict[str, str | None]:
    """Return an output's format and description for the postprocessing, which reads the first output only."""
    if declared is None or not first:
        return {"format": None, "description": None}
    if "nms" not in declared:
        kind = "probabilities" if declared["embedded"] else "logits" if declared["softmax"] else "scores"
        return {"format": kind, "description": f"{spec.shape[-1]} {kind} per row, one for each class"}
    raw = declared["raw_output"]
    anchors, values = spec.shape[1:] if raw["layout"] == "anchors_values" else spec.shape[:0:-1]
    parts = {
        "conf": "1 objectness",
        "classes": f"{raw['classes'] or 'the'} class scores",
        "class": "1 class id",
    }
    named = [parts[part] for part in raw["format"].split("_")[1:]]
    if raw["format"].endswith("conf_class"):
        named[0] = "1 confidence"
    return {
        "format": raw["format"],
        "description": f"{anchors} anchors, {values} values per anchor (4 of the box, {', '.join(named)})",
    }


def _batch(source: Source, golden: Case) -> int | None:
    """Return the fixed batch size of a program that was exported with one; None if the caller chooses it."""
    first = source.inputs[0]
    if "batch" in source.dimensions or not first.shape:
        return None
    return int(golden.inputs[first.name].shape[0])
