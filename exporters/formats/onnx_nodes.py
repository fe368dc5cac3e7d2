"""Add the nodes of one estimator to the graph that skl2onnx builds."""

from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {"float32": 1, "float64": 11, "int64": 7, "bool": 9}  # onnx.TensorProto.DataType


class Nodes:
    """Callable that adds an operator with its inputs and attributes, and returns the name of the output.

    An input is the name of a value, or an array, which becomes a constant. ``dtype`` is the float dtype in
    which these nodes compute; the default is ``given``, the float dtype of the graph.
    """

    def __init__(self, scope: Any, operator: Any, container: Any, dtype: str = "") -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        wide = any(isinstance(one.type, DoubleTensorType) for one in operator.inputs)
        self.given = "float64" if wide else "float32"
        self.dtype = dtype or self.given
        self._scope, self._container = scope, container

    def __call__(self, kind: str, *inputs: str | npt.NDArray[Any], to: str = "", **attributes: Any) -> str:
        if to:
            attributes["to"] = _TYPES[to]
        return self.several(kind, *inputs, count=1, **attributes)[0]

    def several(self, kind: str, *inputs: str | npt.NDArray[Any], count: int, **attributes: Any) -> list[str]:
        """Add an operator with ``count`` outputs."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        outputs: list[str] = [self._scope.get_unique_variable_name(kind.lower()) for _ in range(count)]
        self._container.add_node(kind, names, outputs, **attributes)
        return outputs

    def named(self, name: str) -> str:
        """Return an unused name for a node."""
        return str(self._scope.get_unique_operator_name(name))

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add an array as a constant; floats are cast to ``dtype``."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(self.dtype)
        name: str = self._scope.get_unique_variable_name("constant")
        kind = _TYPES[str(array.dtype)]
        self._container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())
        return name

    def joined(self, operator: Any) -> str:
        """Return the operator's inputs, concatenated, as floats of the computing dtype."""
        parts = [self("Cast", one.full_name, to=self.dtype) for one in operator.inputs]
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=1)

    def column(self, values: str, place: int) -> str:
        """Return one column of ``values`` [N, columns], as [N, 1]."""
        return self("Gather", values, np.array([place]), axis=1)

    def summed(self, values: str) -> str:
        """Return the sum of each row, [N, 1]."""
        return self("ReduceSum", values, np.array([1]), keepdims=1)

    def finish(self, value: str, operator: Any, output: int = 0) -> None:
        """Set the operator's output to ``value``, cast to the float dtype of the graph."""
        if self.dtype != self.given:
            value = self("Cast", value, to=self.given)
        self._container.add_node("Identity", [value], [operator.outputs[output].full_name])

    def classify(self, scores: str, operator: Any) -> None:
        """Set the operator's outputs to the class with the best score, and to the scores [N, classes]."""
        self.finish_label(self("ArgMax", scores, axis=1, keepdims=0), operator)
        self.finish(scores, operator, output=1)

    def finish_label(self, place: str, operator: Any) -> None:
        """Set the first output to the label of each ``place`` int64[N].

        The label is the class at that index of ``classes_``, or the index itself if there are no classes.
        """
        classes = np.asarray(getattr(operator.raw_operator, "classes_", []))
        if classes.dtype.kind in "iu" and len(classes):
            place = self("Gather", classes.astype(np.int64), place)
        elif classes.dtype.kind not in "bf" and len(classes):  # for the other dtypes, the label is the place
            names = [str(one) for one in classes.tolist()]
            place = self(
                "LabelEncoder",
                place,
                op_domain="ai.onnx.ml",
                op_version=2,
                keys_int64s=list(range(len(names))),
                values_strings=names,
            )
        self._container.add_node("Identity", [place], [operator.outputs[0].full_name])
