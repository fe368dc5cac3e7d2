"""ONNX to ONNX: another opset, folded constants, external data, and no traces of its author's machine.

Weights that the file also lists as inputs are removed from the inputs: a runtime folds them only then.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import ONNX, Artefact, Case, Source
from ..errors import ConversionFailed, converting
from . import onnx_file, torch_graph
from .torch_to_onnx import ToOnnx, check_names, optimizes

_OPTIMIZED = "optimized"
_AS_IS = "as-is"
_OLDEST = 7  # the oldest opset of which onnxruntime has every operator
_NEWER = 13  # the opset that an older model is converted to
_ONNX_CONVERTER = "onnx-version-converter"
_ONNXSCRIPT_CONVERTER = "onnxscript-version-converter"


class OnnxToOnnx(ToOnnx):
    takes = (ONNX,)
    modules = ("onnx", "onnxscript", "onnxruntime")

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        import onnx

        wanted = options["opset_version"]
        opset = onnx_file.opset(onnx.load(str(source.program), load_external_data=False))
        if wanted and wanted != opset:
            return (_ONNX_CONVERTER, _ONNXSCRIPT_CONVERTER)
        usual = (_OPTIMIZED, _AS_IS) if optimizes(options) or options["simplify"] else (_AS_IS,)
        return (*usual, _ONNX_CONVERTER) if 0 < opset < _OLDEST else usual

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.onnx`` (and ``model.onnx.data`` beyond protobuf's 2 GB) into ``folder``.

        Raises:
            ConversionFailed: an operator that the other opset does not have.
        """
        import onnx

        check_names(source, example, options)
        wanted = options["opset_version"] or (_NEWER if converter == _ONNX_CONVERTER else None)
        what = f"converted to opset {wanted}" if wanted else "rewritten"
        with converting(f"The ONNX model cannot be {what}", converter), torch_graph.quiet():
            model = onnx.load(str(source.program))
            del model.training_info[:]
            _take_back_inputs(model)
            if converter in (_ONNX_CONVERTER, _ONNXSCRIPT_CONVERTER):
                if onnx_file.opset(model) < _OLDEST:
                    model = _from_old_opset(model, example, wanted or _NEWER)
                else:
                    model = _to_opset(model, wanted or _NEWER, converter)
            if converter != _AS_IS and (optimizes(options) or options["simplify"]):
                model = onnx_file.simplify(model)
            opset = onnx_file.opset(model)
            if wanted and opset != wanted:
                raise ConversionFailed(f"The model cannot be expressed at opset {wanted}, only at {opset}.")
            files = onnx_file.write(model, folder, source)
        return Artefact(files, converter, {"opset_version": opset})


EXPORTER = OnnxToOnnx()


def _take_back_inputs(model: Any) -> None:
    """Remove the weights from the inputs: before IR version 4, every weight had to be an input as well."""
    given = {tensor.name for tensor in model.graph.initializer}
    given |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    kept = [value for value in model.graph.input if value.name not in given]
    if len(kept) != len(model.graph.input):
        model.ir_version = max(model.ir_version, 4)
        del model.graph.input[:]
        model.graph.input.extend(kept)


def _from_old_opset(model: Any, example: Case, wanted: int) -> Any:
    """Convert with ONNX's converter, which reads old broadcasts' sizes from the shapes: the example's here.

    The original axes of the outputs are restored, and ``onnx_file.write`` names the inputs'.
    """
    import onnx

    outputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    sizes = {name: array.shape for name, array in (*example.inputs.items(), *example.expected.items())}
    for value in (*model.graph.input, *model.graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes[value.name], strict=True):
            dim.dim_value = size
    model = _to_opset(onnx.shape_inference.infer_shapes(model), wanted, _ONNX_CONVERTER)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


def _to_opset(model: Any, wanted: int, converter: str) -> Any:
    if converter == _ONNX_CONVERTER:
        from onnx import version_converter

        return version_converter.convert_version(model, wanted)
    import onnxscript.version_converter

    onnxscript.version_converter.convert_version(model, wanted, fallback=False)
    return model
