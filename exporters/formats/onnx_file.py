"""Write an ONNX model so that equal models are equal bytes, without names of anyone's files.

torch's exporters record where each node came from: stack traces with the author's paths and source lines,
graph signatures, symbol names that torch invented. None of that affects the computation.
"""

import math
import re
from pathlib import Path
from typing import Any

from ..base import Source
from ..errors import ConversionFailed

NAME = "model.onnx"
DATA = "model.onnx.data"
# protobuf refuses a message of 2 GiB, and the graph itself needs a part of it.
_INLINE_LIMIT_BYTES = 1_900_000_000
_EXTERNAL_FROM_BYTES = 1024


def opset(model: Any) -> int:
    """Return the version of the default operator set; 0 for a model with operators of other sets only."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def simplify(model: Any) -> Any:
    """Fold constants, and remove unused nodes, with onnxscript's optimizer.

    Raises:
        Exception: any error of the optimizer, which does not support models over protobuf's 2 GB.
    """
    from onnxscript import optimizer

    return optimizer.optimize(model)


def half(model: Any) -> Any:
    """Convert weights and arithmetic to float16; inputs and outputs keep their dtypes.

    Raises:
        ConversionFailed: the model is above protobuf's 2 GB.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    if weights_bytes(model) > _INLINE_LIMIT_BYTES:
        raise ConversionFailed("float16 is not supported for models above 2 GB. Export with float32.")
    model = convert_float_to_float16(model, keep_io_types=True)
    # The converter appends the inputs' casts after the nodes that need them.
    OnnxModel.graph_topological_sort(model.graph, is_deterministic=True)
    return model


def write(model: Any, folder: Path, source: Source) -> tuple[str, ...]:
    """Strip, name the dynamic axes like ``source``, write and check. Return the files, the model first.

    Raises:
        onnx.checker.ValidationError: the exporter's model violates the specification.
    """
    import onnx

    _strip(model)
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            _rename(dim, source)
    specs = {spec.name: spec for spec in source.inputs}
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, specs[value.name].shape, strict=True):
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = size
    path = folder / NAME
    if weights_bytes(model) < _INLINE_LIMIT_BYTES:
        path.write_bytes(model.SerializeToString(deterministic=True))
        files: tuple[str, ...] = (NAME,)
    else:
        onnx.save_model(
            model, str(path), save_as_external_data=True, location=DATA, size_threshold=_EXTERNAL_FROM_BYTES
        )
        files = (NAME, DATA)
    onnx.checker.check_model(str(path))
    return files


def weights_bytes(model: Any) -> int:
    """Return the size of the initializers. ByteSize() serializes, and fails beyond 2 GiB."""
    return sum(map(_size_bytes, model.graph.initializer))


def _size_bytes(tensor: Any) -> int:
    from onnx import helper

    size = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return size if size >= _INLINE_LIMIT_BYTES else int(tensor.ByteSize())


def _rename(dim: Any, source: Source) -> None:
    """Rename an output's axis by the names of the inputs' axes.

    An axis that depends on a fixed one is left open.
    """
    if not dim.dim_param:
        return
    name = re.sub(r"\w+", lambda word: source.symbols.get(word[0], word[0]), dim.dim_param)
    fixed = {ours for ours in source.symbols.values() if ours not in source.dimensions}
    if fixed & set(re.findall(r"\w+", name)):
        dim.ClearField("dim_param")
    else:
        dim.dim_param = name


def _strip(model: Any) -> None:
    del model.metadata_props[:]
    model.doc_string = ""
    _strip_graph(model.graph)
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        del function.value_info[:]
        _strip_nodes(function.node)


def _strip_graph(graph: Any) -> None:
    """Remove intermediate shapes too: runtimes infer them, and wrong ones break quantizers."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.HasField("g"):
                _strip_graph(attribute.g)
            for graph in attribute.graphs:
                _strip_graph(graph)
