"""ONNX models that cost what their input says; and a model host that runs Python instead of a model."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# A model beyond this value in its first element does its worst, as often or as large as the rest says.
QUIET = 1000.0


def loop() -> bytes:
    """x float32[batch, 3] → output, twice x, after as many rounds as x[0, 0] is above QUIET."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Abs", ["now"], ["absolute"]),
            helper.make_node("Identity", ["now"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("now", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    return _model(
        [
            helper.make_node("Squeeze", ["count"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "always", "x"], ["x_after"], body=body),
        ],
        "x_after",
    )


def allocation() -> bytes:
    """As ``loop``, with as many floats of memory."""
    return _model(
        [
            helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["x", "nothing"], ["x_after"]),
        ],
        "x_after",
    )


def multiplication() -> bytes:
    """As ``loop``, with one product of square matrices of that size."""
    return _model(
        [
            helper.make_node("Concat", ["count", "count"], ["square"], axis=0),
            helper.make_node("ConstantOfShape", ["square"], ["zeros"]),
            helper.make_node("MatMul", ["zeros", "zeros"], ["product"]),
            helper.make_node("ReduceSum", ["product"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["x", "nothing"], ["x_after"]),
        ],
        "x_after",
    )


def _model(nodes: list[onnx.NodeProto], result: str) -> bytes:
    """``count`` int64[1]: what x[0, 0] is above QUIET, or 0."""
    constants = {
        "first": np.asarray([0, 0], np.int64),
        "quiet": np.asarray([QUIET], np.float32),
        "none": np.asarray([0], np.int64),
        "two": np.asarray(2, np.float32),
        "always": np.asarray(True),
    }
    counting = [
        helper.make_node("GatherND", ["x", "first"], ["element"]),
        helper.make_node("Sub", ["element", "quiet"], ["above"]),
        helper.make_node("Cast", ["above"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Max", ["whole", "none"], ["count"]),
    ]
    graph = helper.make_graph(
        [*counting, *nodes, helper.make_node("Mul", [result, "two"], ["output"])],
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
