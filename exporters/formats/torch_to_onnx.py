"""torch to ONNX, by whichever of torch's two exporters gets this model right.

- ``dynamo`` walks the exported program. It is the maintained one, and it can be silently wrong
  (pytorch#169178).
- ``torchscript`` walks a TorchScript graph: the only way for a TorchScript source; for an exported program
  the second try, on a trace of it.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Option, Source, Specification
from ..errors import ConversionFailed, UnsupportedOption, as_limit
from . import onnx_file, torch_graph

DYNAMO = "dynamo"
TORCHSCRIPT = "torchscript"
_TORCHSCRIPT_OPSETS = (13, 20)

SPECIFICATION = Specification(
    name="onnx",
    extension=".onnx",
    options={
        "opset_version": Option(
            "integer", 18, "The ONNX operator set to use; TorchScript reaches 20.", (13, 23)
        ),
        "dynamic_axes": Option(
            "object",
            None,
            'Axes whose size the caller chooses, per input: {"input": [0, 2, 3]}. Default: those the '
            "program left dynamic, and for TorchScript the named axes of inputs.",
        ),
        "optimize": Option("boolean", True, "Fold constants and fuse operators while converting."),
    },
)

TAKES = (PROGRAM, SCRIPT)
REQUIRES = ("torch", "onnx", "onnxscript", "onnxruntime")


def converters(source: Source, options: Mapping[str, Any]) -> Iterable[str]:
    """As ``Exporter.converters``."""
    _check_axes(source, options["dynamic_axes"])
    opset = options["opset_version"]
    reachable = _TORCHSCRIPT_OPSETS[0] <= opset <= _TORCHSCRIPT_OPSETS[1]
    if source.family == PROGRAM:
        return (DYNAMO, TORCHSCRIPT) if reachable else (DYNAMO,)
    if not reachable:
        raise UnsupportedOption(
            f"opset_version={opset} cannot be made from TorchScript. Use {_TORCHSCRIPT_OPSETS[0]} to "
            f"{_TORCHSCRIPT_OPSETS[1]}, or upload the model as .pt2.",
            allowed=list(_TORCHSCRIPT_OPSETS),
            option="opset_version",
        )
    return (TORCHSCRIPT,)


def convert(
    source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
) -> Artefact:
    """Write ``model.onnx`` (and ``model.onnx.data`` past protobuf's 2 GB) into ``folder``.

    Raises:
        ConversionFailed: the exporter does not support the model, or not at this opset.
    """
    convert_with = _by_dynamo if converter == DYNAMO else _by_torchscript
    try:
        with torch_graph.quiet():
            model = convert_with(source, example, options, folder)
            opset = onnx_file.opset(model)
            if opset != options["opset_version"]:
                raise ConversionFailed(
                    f"torch's {converter} exporter cannot express this model at opset "
                    f"{options['opset_version']}: "
                    f"it needs {opset}. Leave opset_version out, or set it to {opset}.",
                    needed_opset=opset,
                )
            files = onnx_file.write(model, folder, source.symbols)
    except ConversionFailed:
        raise
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"torch's {converter} exporter cannot convert this model: {torch_graph.reason(exc)}",
            converter=converter,
        ) from exc
    return Artefact(files, converter, {"opset_version": opset})


def _by_dynamo(source: Source, example: Case, options: Mapping[str, Any], folder: Path) -> Any:
    import torch

    program = torch.onnx.export(
        source.program,
        dynamo=True,
        input_names=[spec.name for spec in source.inputs],
        output_names=list(example.expected),
        opset_version=options["opset_version"],
        optimize=options["optimize"],
        verbose=False,
    )
    return program.model_proto


def _by_torchscript(source: Source, example: Case, options: Mapping[str, Any], folder: Path) -> Any:
    import onnx
    import torch

    names = [spec.name for spec in source.inputs]
    args = torch_graph.example_tensors(source, example)
    module = torch_graph.as_script(source, example)
    dynamic = {
        spec.name: {axis: _label(size) for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.inputs
    }
    # A folder of its own: past 2 GB torch writes one file per weight beside the model.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        raw = str(Path(scratch) / "model.onnx")
        torch.onnx.export(
            module,
            args,
            raw,
            dynamo=False,
            input_names=names,
            output_names=list(example.expected),
            dynamic_axes={**dynamic, **_dynamic_outputs(source, example)},
            opset_version=options["opset_version"],
            do_constant_folding=options["optimize"],
        )
        return onnx.load(raw)


def _dynamic_outputs(source: Source, example: Case) -> dict[str, dict[int, str]]:
    """Without a name for the batch of an output, the exporter freezes it at the traced size."""
    batched = [spec for spec in source.inputs if spec.shape and spec.shape[0] == "batch"]
    if not batched:
        return {}
    rows = example.inputs[batched[0].name].shape[0]
    return {
        name: {0: "batch"}
        for name, array in example.expected.items()
        if array.ndim and array.shape[0] == rows
    }


def _label(size: str) -> str:
    return size if size.isidentifier() else "".join(c if c.isalnum() else "_" for c in size)


def _check_axes(source: Source, wanted: Mapping[str, Any] | None) -> None:
    """Only what the source left open can be dynamic; the axes of outputs follow from those of inputs."""
    shapes = {spec.name: spec.shape for spec in source.inputs}
    for name, axes in (wanted or {}).items():
        if not isinstance(axes, list) or not all(isinstance(axis, int) and axis >= 0 for axis in axes):
            raise UnsupportedOption(
                f"dynamic_axes[{name!r}] is not a list of axis numbers like [0, 2, 3].",
                allowed={key: list(range(len(shape))) for key, shape in shapes.items()},
                option="dynamic_axes",
            )
        open_axes = [axis for axis, size in enumerate(shapes.get(name, ())) if isinstance(size, str)]
        fixed = [axis for axis in axes if name in shapes and axis not in open_axes]
        if fixed:
            how = (
                "pass dynamic_shapes to torch.export.export and upload the model again"
                if source.kind == "pt2"
                else "give it a name in the option inputs"
            )
            raise UnsupportedOption(
                f"Axis {fixed[0]} of {name!r} is fixed in the model. To make it dynamic, {how}.",
                allowed={
                    key: [a for a, s in enumerate(shape) if isinstance(s, str)]
                    for key, shape in shapes.items()
                },
                option="dynamic_axes",
            )
