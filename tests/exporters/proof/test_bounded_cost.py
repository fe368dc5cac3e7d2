"""Which ONNX models are known to cost no more than the shapes of their inputs say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.proof import bounded_cost
from tests.serving.model_hosts import hostile


def written(path: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> Path:  # type: ignore[type-arg]
    """x float32[batch, 3] → y."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    return path


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (hostile.loop, "Loop"),
        (hostile.allocation, "ConstantOfShape of a size from an input's values"),
        (hostile.multiplication, "ConstantOfShape of a size from an input's values"),
    ],
)
def test_a_cost_that_a_value_decides_is_not_bounded(tmp_path: Path, model: object, why: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model())  # type: ignore[operator]
    assert bounded_cost.unbounded(path) == [why]


@pytest.mark.parametrize("operator", ["NonZero", "Compress", "Unique", "RandomNormalLike"])
def test_an_operator_that_is_not_listed_is_not_bounded(tmp_path: Path, operator: str) -> None:
    path = written(tmp_path / "model.onnx", [helper.make_node(operator, ["x"], ["y"])])
    assert bounded_cost.unbounded(path) == [operator]


def test_a_size_may_come_from_constants_and_from_shapes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Mul", ["batch", "four"], ["more"]),
        helper.make_node("Concat", ["more", "four"], ["size"], axis=0),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Tile", ["x", "twice"], ["y"]),
    ]
    constants = {name: np.asarray(value, np.int64) for name, value in (("zero", [0]), ("four", [4]))}
    path = written(tmp_path / "model.onnx", nodes, **constants, twice=np.asarray([2, 1], np.int64))
    assert bounded_cost.unbounded(path) == []


def test_a_high_power_of_a_shape_is_not_bounded(tmp_path: Path) -> None:
    squares = [helper.make_node("Mul", [f"n{power}"] * 2, [f"n{power + 1}"]) for power in range(4)]
    nodes = [helper.make_node("Shape", ["x"], ["n0"]), *squares]
    nodes.append(helper.make_node("ConstantOfShape", ["n4"], ["y"]))
    assert len(bounded_cost.unbounded(written(tmp_path / "model.onnx", nodes))) == 1
