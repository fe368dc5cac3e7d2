"""Check an ONNX file before a runtime reads it.

ONNX is a description, not a program, but three parts of it reach outside: weights may be in other files,
whose paths the file names (CVE-2022-25882, CVE-2024-27318 and CVE-2024-5187 read any file of the machine that
way); operators of other domains are native code from third parties; and an ``EPContext`` passes a blob to an
accelerator's driver.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, UnsafeCheckpoint, as_limit

# onnxruntime's own domains. Functions that the file defines are built from their operators.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_REFUSED_OPERATORS = {"EPContext"}
_ADVICE = "Write the model again with onnx.save_model(model, path), together with its data files."


def read(path: Path) -> Any:
    """Return the checked model, as an onnx.ModelProto whose external data is not loaded.

    Raises:
        UnsafeCheckpoint: a file outside the model's folder, or an operator of a third-party library.
        InvalidSource: damaged, incomplete, or against the specification.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(f"The ONNX file is damaged or was cut short. {_ADVICE}") from exc
    if not model.HasField("graph"):
        raise InvalidSource("The ONNX file has no graph, so it is not a model.")
    if model.training_info:
        raise UnsafeCheckpoint(
            "The ONNX file contains training graphs (training_info), which are refused because "
            "they are not exported and could hide anything. Export the model for inference.",
            part="training_info",
        )
    _check_operators(model)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(tensor, path.parent)
    try:
        onnx.checker.check_model(str(path))
    except Exception as exc:
        text = str(exc).replace(str(path), path.name)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise as_limit(exc) or InvalidSource(
            f"The ONNX file violates the specification: {(lines or ['no reason given'])[0][:300]}"
        ) from exc
    return model


def _check_operators(model: Any) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        known = node.domain in _DOMAINS or (node.domain, node.op_type) in own
        if not known or node.op_type in _REFUSED_OPERATORS:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise UnsafeCheckpoint(
                f"The ONNX file uses the operator {name[:80]}, which is refused: it is not an ONNX "
                "operator and needs the native code of a library. Export the model with standard "
                "operators.",
                part=name[:80],
            )


def _check_external(tensor: Any, folder: Path) -> None:
    entry = {item.key: item.value for item in tensor.external_data}
    location = entry.get("location", "")
    parts = Path(location).parts
    if not location or location.startswith("/") or "\\" in location or "\0" in location or ".." in parts:
        raise _outside(location)
    # onnxruntime treats names such as */_ORT_MEM_ADDR_/* as addresses in its own memory.
    if not parts or ":" in parts[0] or "*" in location:
        raise _outside(location)
    path = folder / location
    if not path.resolve().is_relative_to(folder.resolve()) or any(
        (folder / Path(*parts[: depth + 1])).is_symlink() for depth in range(len(parts))
    ):
        raise _outside(location)
    if not path.is_file():
        raise InvalidSource(
            f"The ONNX file stores weights in {location[:80]!r}, which is missing: upload both in one folder."
        )
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
    except ValueError:
        raise InvalidSource(f"The ONNX file has invalid entries for its external data. {_ADVICE}") from None
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise InvalidSource(
            f"{location[:80]!r} ends before the weights that the ONNX file stores there. Upload it again."
        )


def _outside(location: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"The ONNX file stores weights in {location[:80]!r}, which is refused: it is outside the "
        f"model's folder. {_ADVICE}",
        part=location[:80],
    )


def nodes(model: Any) -> Iterator[Any]:
    """Yield every node: of the graph, its subgraphs and its functions."""
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)
        for graph in _graphs(function.attribute_proto):
            yield from _nodes(graph.node)


def _nodes(found: Any) -> Iterator[Any]:
    for node in found:
        yield node
        for graph in _graphs(node.attribute):
            yield from _nodes(graph.node)


def _graphs(attributes: Any) -> Iterator[Any]:
    for attribute in attributes:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(model: Any) -> Iterator[Any]:
    # The attributes of a function have defaults, which its nodes use.
    attributes = [node.attribute for node in nodes(model)]
    attributes += [function.attribute_proto for function in model.functions]
    for graph in (model.graph, *(graph for some in attributes for graph in _graphs(some))):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in (attribute for some in attributes for attribute in some):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
