"""torch to ONNX, by the first of torch's exporters whose result is correct.

- ``dynamo`` walks the exported program. It is maintained, but its result can be silently wrong
  (pytorch#169178).
- ``torchscript`` walks a TorchScript graph. It is the only one for a TorchScript source, and the second try
  for an exported program, whose graph is compiled to TorchScript. It supports opsets below 18.
- ``torchscript-traced`` is the last try: a trace of an exported program, which loses most dynamic axes.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Exporter, Source
from ..errors import ConversionFailed, UnsupportedOption, converting
from ..options import Option, Specification
from . import onnx_file, torch_graph

DYNAMO = "dynamo"
TORCHSCRIPT = "torchscript"
TRACED = "torchscript-traced"
DEFAULT_OPSET = 18
_TORCHSCRIPT_OPSETS = (13, 20)

SPECIFICATION = Specification(
    name="onnx",
    extension=".onnx",
    embeds=True,
    options={
        "opset_version": Option(
            "integer",
            None,
            "The ONNX operator set; TorchScript supports up to 20. Default: 18; for an ONNX source, its own.",
            (13, 23),
        ),
        "dynamic_axes": Option(
            "object",
            None,
            'Axes of any size, per input: {"input": [0, 2, 3]}; all others become fixed, and '
            "those of outputs follow from the inputs. Default: all dynamic axes of the source.",
        ),
        "optimize": Option("boolean", True, "Fold constants and fuse operators while converting."),
        "optimize_for_inference": Option(
            "boolean", None, "Another name for optimize; if both are given, this one applies."
        ),
        "simplify": Option(
            "boolean",
            False,
            "After the conversion, fold constants again and remove operators without effect.",
        ),
        "float64": Option(
            "boolean",
            False,
            "For estimators: take float64 inputs and return float64 outputs, except from trees. "
            "For numbers whose differences float32 cannot represent, such as timestamps.",
        ),
    },
)


class ToOnnx(Exporter):
    """A conversion to ONNX, of any family."""

    specification = SPECIFICATION

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: without the dynamic axes that ``dynamic_axes`` does not name.

        Raises:
            UnsupportedOption: it names an axis that the source has fixed.
        """
        axes = options["dynamic_axes"]
        if axes is None:
            return source
        _check_axes(source, axes)
        kept = {
            word
            for spec in source.inputs
            for axis in axes.get(spec.name, ())
            for word in re.findall(r"[A-Za-z_]\w*", str(spec.shape[axis]))
        }
        if kept >= set(source.dimensions):
            return source
        return _with_dynamic(source, kept)


class TorchToOnnx(ToOnnx):
    takes = (PROGRAM, SCRIPT)
    modules = ("torch", "onnx", "onnxscript", "onnxruntime")

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        opset = options["opset_version"] or DEFAULT_OPSET
        reachable = _TORCHSCRIPT_OPSETS[0] <= opset <= _TORCHSCRIPT_OPSETS[1]
        if source.family == PROGRAM:
            return (DYNAMO, TORCHSCRIPT, TRACED) if reachable else (DYNAMO,)
        if not reachable:
            raise UnsupportedOption(
                f"opset_version={opset} is not supported for TorchScript. Use "
                f"{_TORCHSCRIPT_OPSETS[0]} to {_TORCHSCRIPT_OPSETS[1]}, or upload the model as .pt2.",
                allowed=list(_TORCHSCRIPT_OPSETS),
                option="opset_version",
            )
        return (TORCHSCRIPT,)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.onnx`` (and ``model.onnx.data`` beyond protobuf's 2 GB) into ``folder``.

        Raises:
            ConversionFailed: the exporter does not support the model, or not at this opset.
        """
        check_names(source, example, options)
        failure = f"torch's {converter} exporter cannot convert this model"
        precision = "bfloat16" if torch_graph.has_bfloat16(source) else None
        with converting(failure, converter), torch_graph.quiet():
            source = torch_graph.in_float32(source, example)
            if converter == DYNAMO:
                model = _by_dynamo(source, example, options)
            else:
                traced = converter == TRACED
                script = (
                    torch_graph.as_script(source, example)
                    if traced
                    else torch_graph.as_compiled_script(source)
                )
                model = _by_torchscript(script, source, example, options, folder)
            opset, wanted = onnx_file.opset(model), options["opset_version"] or DEFAULT_OPSET
            if opset != wanted:
                raise ConversionFailed(
                    f"torch's {converter} exporter cannot express this model at opset {wanted}: it needs "
                    f"{opset}. Set opset_version to {opset}.",
                    needed_opset=opset,
                )
            if options["simplify"]:
                model = onnx_file.simplify(model)
            files = onnx_file.write(model, folder, source)
        return Artefact(files, converter, {"opset_version": opset}, precision)


EXPORTER = TorchToOnnx()


def _with_dynamic(source: Source, kept: set[str]) -> Source:
    """Make all other axes fixed: a batch of 1, otherwise traced sizes, or sizes that the model accepts."""
    from ..proof import cases

    shapes = {spec.name: spec.shape for spec in cases.fixed(source, {}).inputs}
    sizes = {
        str(size): int(number)
        for spec in source.inputs
        for size, number in zip(spec.shape, shapes[spec.name], strict=True)
        if size in source.dimensions and size not in kept
    }

    def axis(size: int | str, number: int | str) -> int | str:
        words = set(re.findall(r"[A-Za-z_]\w*", str(size)))
        return number if words <= sizes.keys() else size

    return replace(
        source,
        inputs=tuple(
            replace(spec, shape=tuple(map(axis, spec.shape, shapes[spec.name]))) for spec in source.inputs
        ),
        dimensions={name: one for name, one in source.dimensions.items() if name not in sizes},
        shapes=lambda chosen: source.shapes({**sizes, **chosen}),
    )


def check_names(source: Source, example: Case, options: Mapping[str, Any]) -> None:
    """Raises UnsupportedOption if ``dynamic_axes`` names neither an input nor an output."""
    names = [*example.inputs, *example.expected]
    for name in options["dynamic_axes"] or {}:
        if name not in names:
            raise UnsupportedOption(
                f"dynamic_axes contains {name!r}, but the inputs and outputs of the model are "
                f"{', '.join(map(repr, names))}.",
                allowed=names,
                option="dynamic_axes",
            )


def optimizes(options: Mapping[str, Any]) -> bool:
    other = options["optimize_for_inference"]
    return bool(options["optimize"] if other is None else other)


def _by_dynamo(source: Source, example: Case, options: Mapping[str, Any]) -> Any:
    import torch

    program = torch.onnx.export(
        source.program,
        dynamo=True,
        input_names=[spec.name for spec in source.inputs],
        output_names=list(example.expected),
        opset_version=options["opset_version"] or DEFAULT_OPSET,
        optimize=optimizes(options),
        verbose=False,
    )
    return program.model_proto


def _by_torchscript(
    script: Any, source: Source, example: Case, options: Mapping[str, Any], folder: Path
) -> Any:
    import onnx
    import torch

    names = [spec.name for spec in source.inputs]
    args = torch_graph.example_tensors(source, example)
    dynamic = {
        spec.name: {axis: _label(size) for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.inputs
    }
    # A folder of its own: beyond 2 GB torch writes one file per weight beside the model.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        raw = str(Path(scratch) / "model.onnx")
        torch.onnx.export(
            script,
            args,
            raw,
            dynamo=False,
            input_names=names,
            output_names=list(example.expected),
            dynamic_axes={**dynamic, **_dynamic_outputs(source, example)},
            opset_version=options["opset_version"] or DEFAULT_OPSET,
            do_constant_folding=optimizes(options),
        )
        return onnx.load(raw)


def _dynamic_outputs(source: Source, example: Case) -> dict[str, dict[int, str]]:
    """Name the batch axis of outputs: otherwise the exporter fixes it at the traced size."""
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


_HOW_TO_OPEN = {
    "pt2": "pass dynamic_shapes to torch.export.export and upload the model again",
    "onnx": "export the ONNX file again with that axis dynamic",
}


def _check_axes(source: Source, wanted: Mapping[str, Any] | None) -> None:
    """Check that only open axes become dynamic; the axes of outputs follow from those of inputs."""
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
            how = _HOW_TO_OPEN.get(source.kind, "name it in the option inputs")
            raise UnsupportedOption(
                f"Axis {fixed[0]} of {name!r} is fixed in the model. To make it dynamic, {how}.",
                allowed={
                    key: [a for a, s in enumerate(shape) if isinstance(s, str)]
                    for key, shape in shapes.items()
                },
                option="dynamic_axes",
            )
