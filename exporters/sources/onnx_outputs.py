"""Convert ONNX outputs that are not numbers to tensors: ZipMap's dictionaries, and labels that are text.

skl2onnx and onnxmltools end a classifier with a ZipMap: for each row a dictionary of class and probability.
The program that is converted has the tensor float32[rows, classes] instead, as its first output. A text label
becomes the index of the class, int64, like the labels of estimators. The reference is still the model in the
file; its outputs are decoded to the same tensors.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InvalidSource

Decoder = Callable[[Any], npt.NDArray[Any]]
Label = str | int
_ML = "ai.onnx.ml"


class Outputs(NamedTuple):
    """``model`` is changed in place if an output has a decoder. ``classes``: in the scores' order."""

    decoders: dict[str, Decoder]
    classes: tuple[str, ...] | None


def as_tensors(model: Any) -> Outputs:
    """Convert every output of ``model`` to a tensor of numbers.

    Raises:
        InvalidSource: an output of another type, like a sequence, or text that is no class.
    """
    import onnx

    makers = {name: node for node in model.graph.node for name in node.output}
    decoders: dict[str, Decoder] = {}
    labels: list[Label] = []
    for output in model.graph.output:
        node = makers.get(output.name)
        if node is not None and node.op_type == "ZipMap":
            labels = _labels_of(node)
            decoders[output.name] = _of_dictionaries(labels)
            _drop(node, output, len(labels))
    scores_first = sorted(model.graph.output, key=lambda output: output.name not in decoders)
    del model.graph.output[:]
    model.graph.output.extend(scores_first)
    labels = labels or _labels_of_classifier(model.graph.node)
    for output in model.graph.output:
        if not output.type.HasField("tensor_type"):
            raise InvalidSource(
                f"The output {output.name!r} of the ONNX model is a "
                f"{output.type.WhichOneof('value')}, but only tensors can be exported. Return its "
                "parts as separate outputs."
            )
        if output.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            decoders[output.name] = _of_text(output.name, labels)
            _encode(model, output, labels)
    return Outputs(decoders, tuple(map(str, labels)) or None)


def _labels_of(node: Any) -> list[Label]:
    """Return the classes that a ZipMap or a classifier knows."""
    for attribute in node.attribute:
        if attribute.name in ("classlabels_strings", "class_labels_strings") and attribute.strings:
            return [label.decode() for label in attribute.strings]
        if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
            return list(attribute.ints)
    return []


def _labels_of_classifier(nodes: Iterable[Any]) -> list[Label]:
    """Return the labels of the model's only classifier.

    The list is empty if it has several classifiers, like the parts of an ensemble.
    """
    found = [labels for node in nodes if node.domain == _ML and (labels := _labels_of(node))]
    return found[0] if len(found) == 1 else []


def _of_dictionaries(labels: list[Label]) -> Decoder:
    return lambda rows: np.array([[row[label] for label in labels] for row in rows], np.float32).reshape(
        len(rows), len(labels)
    )


def _of_text(name: str, labels: list[Label]) -> Decoder:
    if not labels or not all(isinstance(label, str) for label in labels):
        raise InvalidSource(
            f"The output {name!r} of the ONNX model is text but not the class of a classifier, and "
            "only numbers can be exported. Return the index in a list instead."
        )
    places = {label: place for place, label in enumerate(labels)}
    return lambda found: np.vectorize(places.__getitem__, otypes=[np.int64])(found)


def _drop(node: Any, output: Any, columns: int) -> None:
    """Replace a ZipMap by a Cast: a ZipMap always returns float32."""
    import onnx

    float32 = onnx.TensorProto.FLOAT
    node.CopyFrom(onnx.helper.make_node("Cast", [node.input[0]], [output.name], name=node.name, to=float32))
    output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, float32, [None, columns]))


def _encode(model: Any, output: Any, labels: list[Label]) -> None:
    """Append a LabelEncoder: text → index."""
    import onnx

    text = f"{output.name}_text"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [text if name == output.name else name for name in names]
    version = next((entry.version for entry in model.opset_import if entry.domain == _ML), 0)
    if version == 1:
        attributes: dict[str, Any] = {"classes_strings": labels}
    else:
        attributes = {"keys_strings": labels, "values_int64s": list(range(len(labels)))}
    if not version:
        model.opset_import.append(onnx.helper.make_opsetid(_ML, 2))
    model.graph.node.append(
        onnx.helper.make_node("LabelEncoder", [text], [output.name], domain=_ML, **attributes)
    )
    output.type.tensor_type.elem_type = onnx.TensorProto.INT64
