"""Write an ONNX model so that equal models are equal bytes, and so that it names no one's files.

torch's exporters record where each node came from: stack traces with the author's paths and source lines,
graph signatures, symbol names that torch invented. None of it computes anything.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "model.onnx"
DATA = "model.onnx.data"
# protobuf refuses a message of 2 GiB; the graph itself needs some of it.
_INLINE_LIMIT_BYTES = 1_900_000_000


def opset(model: Any) -> int:
    """The version of the default operator set."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def write(model: Any, folder: Path, symbols: Mapping[str, str]) -> tuple[str, ...]:
    """Strip, name the dynamic axes (``symbols``: theirs → ours), write and check; the files, the model first.

    Raises:
        onnx.checker.ValidationError: the exporter made a model that breaks the specification.
    """
    import onnx

    _strip(model)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), dim.dim_param)
    path = folder / NAME
    # Not ByteSize(): it serializes, and that is what fails.
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < _INLINE_LIMIT_BYTES:
        path.write_bytes(model.SerializeToString(deterministic=True))
        files: tuple[str, ...] = (NAME,)
    else:
        onnx.save_model(model, str(path), save_as_external_data=True, location=DATA, size_threshold=1024)
        files = (NAME, DATA)
    onnx.checker.check_model(str(path))
    return files


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
    """Shapes of intermediate values go too: runtimes infer them, and stale ones break quantizers."""
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
