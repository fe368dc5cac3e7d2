"""Values of ONNX inputs that are shapes, axes, repeats or positions: random values would not fit.

They are derived from the shapes of the operator's data and results, which the file declares or ONNX infers.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..base import Arrays, TensorSpec
from ..errors import as_limit

Sizes = list[int | None]
Numbers = list[float] | list[int] | None


class _Use(NamedTuple):
    """An operator that reads an input. ``data``, ``outputs``: shapes of first input and outputs."""

    length: int  # how many values the input has
    data: Sizes
    outputs: list[Sizes]
    attributes: dict[str, Any]

    @property
    def result(self) -> Sizes:
        return self.outputs[0]

    def axis(self, default: int) -> int:
        axis: int = self.attributes.get("axis", default)
        return axis

    def axes(self) -> Sizes:
        """Return the result's sizes that the attribute ``axes`` selects; all sizes without the attribute."""
        return [self.result[axis] for axis in self.attributes.get("axes", range(len(self.result)))]


def _shape(use: _Use) -> Numbers:
    unknown = use.result.count(None)
    return [-1 if size is None else size for size in use.result] if unknown < 2 else None


def _ratio(use: _Use) -> list[float] | None:
    axes = use.attributes.get("axes", range(len(use.result)))
    pairs = [(use.result[axis], use.data[axis]) for axis in axes]
    return [new / old for new, old in pairs if new is not None and old] if len(pairs) == use.length else None


def _repeats(use: _Use) -> Numbers:
    ratio = _ratio(use)
    return [int(number) for number in ratio] if ratio is not None else None


def _grid(use: _Use) -> Numbers:
    """Return AffineGrid's size [N, C, H, W]; its result is [N, H, W, 2]."""
    return _known([use.result[0], 1, *use.result[1:-1]])


def _known(sizes: Sizes) -> Numbers:
    return [size for size in sizes if size is not None] if None not in sizes else None


# Operator and index of the input → the input's values.
_VALUES: dict[tuple[str, int], Callable[[_Use], Numbers]] = {
    ("Reshape", 1): _shape,
    ("Expand", 1): lambda use: [1 if size is None else size for size in use.result],
    ("ConstantOfShape", 0): lambda use: _known(use.result),
    ("CenterCropPad", 1): lambda use: _known(use.axes()),
    ("AffineGrid", 1): _grid,
    ("Resize", 2): _ratio,
    ("Resize", 3): lambda use: _known(use.axes()),
    ("Upsample", 1): _ratio,
    ("Tile", 1): _repeats,
    ("Split", 1): lambda use: _known([sizes[use.axis(0)] for sizes in use.outputs]),
    ("Squeeze", 1): lambda use: [axis for axis, size in enumerate(use.data) if size == 1],
    ("Unsqueeze", 1): lambda use: list(range(use.length)),
    ("Slice", 1): lambda use: [0] * use.length,
    ("Slice", 2): lambda use: _known(use.data[: use.length]),
    ("Slice", 3): lambda use: list(range(use.length)),
    ("Slice", 4): lambda use: [1] * use.length,
    ("Pad", 1): lambda use: [0] * use.length,
    ("TopK", 1): lambda use: _known([use.result[use.axis(-1)]]),
    ("CumSum", 1): lambda use: [0],
    ("CumProd", 1): lambda use: [0],
    ("NonMaxSuppression", 2): lambda use: _known([use.data[1]]),
    ("OneHot", 1): lambda use: _known([use.result[use.axis(-1)]]),
    ("Range", 0): lambda use: [0],
    ("Range", 1): lambda use: _known(use.result),
    ("Range", 2): lambda use: [1],
}
# Operators that divide by their second input, which must then not be zero.
DIVISIONS = ("Div", "Mod")


def values(model: Any, inputs: Iterable[TensorSpec]) -> Arrays:
    """Name of an input → its value, for inputs that ``model``, an onnx.ModelProto, uses as a shape."""
    fixed = {spec.name: [size for size in spec.shape if isinstance(size, int)] for spec in inputs}
    specs = {spec.name: spec for spec in inputs if len(fixed[spec.name]) == len(spec.shape)}
    uses = [
        (name, node, position)
        for node in model.graph.node
        for position, name in enumerate(node.input)
        if name in specs and (node.op_type, position) in _VALUES
    ]
    if not uses:
        return {}
    shapes = _shapes(model)
    found: Arrays = {}
    for name, node, position in uses:
        spec = specs[name]
        try:
            numbers = _VALUES[node.op_type, position](_use(node, int(np.prod(fixed[name])), shapes))
        except (IndexError, KeyError, TypeError):  # an unknown rank, or one that does not fit the operator
            continue
        if numbers is not None and len(numbers) == int(np.prod(fixed[name])):
            found[name] = np.array(numbers, spec.dtype).reshape(fixed[name])
    return found


def _use(node: Any, length: int, shapes: dict[str, Sizes]) -> _Use:
    import onnx

    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    data, outputs = shapes.get(node.input[0], []), [shapes[name] for name in node.output if name]
    return _Use(length, data, outputs, attributes)


def _shapes(model: Any) -> dict[str, Sizes]:
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception as exc:  # past 2 GiB, or a shape that contradicts another
        if limit := as_limit(exc):
            raise limit from exc
        graph = model.graph
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
        if (tensor := value.type.tensor_type).HasField("shape")
    }
