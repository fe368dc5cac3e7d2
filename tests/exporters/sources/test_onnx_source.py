"""ONNX files of any exporter: what is understood of them, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from exporters import sources
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from exporters.request import ExportRequest, ExportResult, Trust

Sizes = list[int | str | None]


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sizes]],
    weights: dict[str, np.ndarray] | None = None,
    rank: int = 2,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, sizes) for name, (kind, sizes) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, **more)


def linear(sizes: Sizes, weight: np.ndarray | None = None) -> onnx.ModelProto:
    weight = np.ones((4, 2), np.float32) if weight is None else weight
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (TensorProto.FLOAT, sizes)},
        {"w": weight},
        len(sizes),
    )


def load(model: onnx.ModelProto, folder: Path) -> Any:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return sources.load(folder / "model.onnx", {}, Trust())


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([3, 4], (3, 4)),
        (["batch", 4], ("batch", 4)),
        (["N", 4], ("batch", 4)),
        (["unk__12", 4], ("batch", 4)),
        ([None, 4], ("batch", 4)),
        (["length", 4], ("length", 4)),
        (["batch_size", "seq len", 4], ("batch", "x_dim_1", 4)),
        (["batch", "2*half", 4], ("batch", "2*half", 4)),
        ([2, None, 4], (2, "x_dim_1", 4)),
    ],
    ids=str,
)
def test_axes_have_names_that_can_be_used(sizes: Sizes, shape: tuple, tmp_path: Path) -> None:
    source = load(linear(sizes), tmp_path)

    assert [spec.shape for spec in source.inputs] == [shape]
    chosen = dict.fromkeys(source.dimensions, 6)
    found = source.shapes(chosen)["x"]
    assert source.reference({"x": np.ones(found, np.float32)})["y"].shape == (*found[:-1], 2)


def test_inputs_without_names_for_their_batch_share_one(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {"a": (TensorProto.FLOAT, [None, 4]), "b": (TensorProto.FLOAT, [None, None])},
    )

    source = load(model, tmp_path)

    assert [spec.shape for spec in source.inputs] == [("batch", 4), ("batch", "b_dim_1")]


def test_a_weight_that_is_listed_as_an_input_is_none(tmp_path: Path) -> None:
    model = linear(["batch", 4])
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]))

    source = load(model, tmp_path)

    assert [spec.name for spec in source.inputs] == ["x"]


def test_integers_stay_within_the_tables_they_select_from(tmp_path: Path) -> None:
    model = model_of(
        [
            helper.make_node("Cast", ["small"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["words", "index"], ["a"]),
            helper.make_node("Gather", ["words", "large"], ["b"]),
            helper.make_node("Gather", ["places", "large"], ["c"]),
            helper.make_node("Cast", ["pixels"], ["d"], to=TensorProto.FLOAT),
            helper.make_node("Sum", ["a", "b", "c", "d"], ["y"]),
        ],
        {
            "small": (TensorProto.INT32, ["batch"]),
            "large": (TensorProto.INT64, ["batch"]),
            "pixels": (TensorProto.UINT8, ["batch", 3]),
        },
        {"words": np.ones((50, 3), np.float32), "places": np.ones((7, 3), np.float32)},
    )

    source = load(model, tmp_path)

    assert source.integers == {"small": (0, 49), "large": (0, 6), "pixels": (0, 255)}


def test_class_names_in_the_file_are_found(tmp_path: Path) -> None:
    model = linear(["batch", 4])
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}", "author": "somebody"})

    assert load(model, tmp_path).classes == ("cat", "dog")


def test_a_folder_holds_a_model_and_its_data(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 400)).astype(np.float32)
    onnx.save_model(
        linear(["batch", 4], weight),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )

    source = sources.load(tmp_path, {}, Trust())

    rows = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(source.reference({"x": rows})["y"], rows @ weight, rtol=1e-5)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(InvalidSource, match="ends before the weights"):
        sources.load(tmp_path, {}, Trust())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidSource, match="upload both in one folder"):
        sources.load(tmp_path, {}, Trust())


@pytest.mark.parametrize("where", ["graph", "constant", "branch", "default"])
@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "..\\secret",
        "c:secret",
        "link",
        "folder/secret",
        "",
        ".",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_weights_outside_the_folder_are_refused(where: str, location: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    tensor = TensorProto(name="w", dims=[4, 2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    model = linear(["batch", 4])
    if where == "graph":
        model.graph.initializer[0].CopyFrom(tensor)
    else:
        constant = helper.make_node("Constant", [], ["c"])
        function = helper.make_function("mine", "F", [], ["c"], [], [helper.make_opsetid("", 18)])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        if where in ("branch", "default"):
            output = helper.make_tensor_value_info("c", TensorProto.FLOAT, [4, 2])
            branch = helper.make_graph([constant], "branch", [], [output])
            constant = helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch)
            model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        if where == "default":  # a function's attribute, to which its nodes refer
            function.attribute_proto.append(helper.make_attribute("branch", branch))
            model.functions.append(function)
        else:
            model.graph.node.insert(0, constant)

    with pytest.raises(UnsafeCheckpoint, match="outside the model's folder"):
        load(model, folder)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Run", ["x"], ["y"], domain="ai.onnx.contrib"),
        helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft"),
    ],
    ids=["custom", "device blob"],
)
def test_operators_of_somebodys_library_are_refused(node: onnx.NodeProto, tmp_path: Path) -> None:
    model = model_of([node], {"x": (TensorProto.FLOAT, ["batch", 4])})
    model.opset_import.append(helper.make_opsetid(node.domain, 1))

    with pytest.raises(UnsafeCheckpoint, match=rf"the operator {node.domain}::{node.op_type}, which"):
        load(model, tmp_path)


def test_functions_that_the_file_defines_are_none_of_those(tmp_path: Path) -> None:
    function = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    node = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    model = model_of([node], {"x": (TensorProto.FLOAT, ["batch", 4])}, functions=[function])
    model.opset_import.append(helper.make_opsetid("mine", 1))

    source = load(model, tmp_path)

    assert source.reference({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2, 2, 2, 2]]


def _cut(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString()[:-40]


def _undefined(model: onnx.ModelProto) -> bytes:
    model.graph.node[0].input[1] = "nothing"
    return model.SerializeToString()


def _no_input(model: onnx.ModelProto) -> bytes:
    model.graph.node[0].input[0] = "w"
    model.graph.node[0].op_type = "Add"
    del model.graph.input[:]
    return model.SerializeToString()


def _text(model: onnx.ModelProto) -> bytes:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].input[1]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    return model.SerializeToString()


def _future(model: onnx.ModelProto) -> bytes:
    model.opset_import[0].version = 99
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut, "damaged or was cut short"),
        (_undefined, "violates the specification"),
        (_no_input, "takes no input"),
        (_text, "is text; supported are"),
        (_future, "opset"),
    ],
    ids=["cut", "undefined value", "no input", "text", "unknown opset"],
)
def test_what_is_no_usable_model_is_refused(
    change: Callable[[onnx.ModelProto], bytes], message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(change(linear(["batch", 4])))

    with pytest.raises(InvalidSource, match=f"(?i){message}") as caught:
        sources.load(tmp_path / "model.onnx", {}, Trust())

    assert str(tmp_path) not in caught.value.message


def test_it_records_its_inputs_itself(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(linear(["batch", 4]).SerializeToString())

    with pytest.raises(UnsupportedOption, match="an ONNX file does"):
        sources.load(tmp_path / "model.onnx", {"inputs": [{"shape": [1, 4]}]}, Trust())


def test_a_folder_of_two_models_is_none(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(linear(["batch", 4]).SerializeToString())

    with pytest.raises(InvalidSource, match=r"has 2 \.onnx files"):
        sources.load(tmp_path, {}, Trust())


def test_operators_in_the_defaults_of_a_function_are_checked(tmp_path: Path) -> None:
    body = helper.make_graph([helper.make_node("Run", [], ["c"], domain="ai.onnx.contrib")], "body", [], [])
    function = helper.make_function("mine", "F", [], ["c"], [], [helper.make_opsetid("", 18)])
    function.attribute_proto.append(helper.make_attribute("branch", body))
    model = linear(["batch", 4])
    model.functions.append(function)

    with pytest.raises(UnsafeCheckpoint, match=r"the operator ai\.onnx\.contrib::Run, which"):
        load(model, tmp_path)


def test_graphs_for_training_are_refused(tmp_path: Path) -> None:
    model = linear(["batch", 4])
    model.training_info.add().algorithm.name = "step"

    with pytest.raises(UnsafeCheckpoint, match="training_info"):
        load(model, tmp_path)


@pytest.mark.parametrize("dtype", ["UINT16", "UINT32", "UINT64"])
def test_unsigned_integers_are_inputs(dtype: str, tmp_path: Path) -> None:
    kind = getattr(TensorProto, dtype)
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]

    source = load(model_of(nodes, {"x": (kind, ["batch", 4])}), tmp_path)

    assert source.inputs[0].dtype == dtype.lower()
    rows = np.full((2, 4), 65_000, dtype.lower())
    np.testing.assert_array_equal(source.reference({"x": rows})["y"], rows.astype(np.float32))


def test_an_axis_of_size_zero_is_fixed(tmp_path: Path) -> None:
    nodes = [helper.make_node("CastLike", ["x", "like"], ["y"])]
    inputs: dict[str, tuple[int, Sizes]] = {
        "x": (TensorProto.DOUBLE, [3, 4]),
        "like": (TensorProto.FLOAT, [0]),
    }

    source = load(model_of(nodes, inputs), tmp_path)

    assert [spec.shape for spec in source.inputs] == [(3, 4), (0,)]
    assert source.dimensions == {}


SHAPES = {
    "Reshape": "(float[2,6] x, int64[2] n) => (float[3,4] y) { y = Reshape (x, n) }",
    "Expand": "(float[2,1] x, int64[2] n) => (float[2,4] y) { y = Expand (x, n) }",
    "Tile": "(float[2,3] x, int64[2] n) => (float[4,9] y) { y = Tile (x, n) }",
    "Resize": "(float[1,1,2,2] x, int64[4] n) => (float[1,1,3,5] y) { y = Resize (x, , , n) }",
    "Slice": "(float[4,5] x, int64[2] n, int64[2] m) => (float[a,b] y) { y = Slice (x, n, m) }",
    "Split": "(float[6] x, int64[2] n) => (float[2] y, float[4] z) { y, z = Split (x, n) }",
    "TopK": "(float[2,5] x, int64[1] n) => (float[2,3] y, int64[2,3] z) { y, z = TopK (x, n) }",
    "Unsqueeze": "(float[2,3] x, int64[3] n) => (float[1,1,1,2,3] y) { y = Unsqueeze (x, n) }",
    "Div": "(int32[2,3] x, int32[2,3] n) => (int32[2,3] y) { y = Div (x, n) }",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_inputs_that_are_shapes_need_no_sample(text: str, tmp_path: Path) -> None:
    """Random values fit none of these operators, or return nothing."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g {text}')
    onnx.save(model, tmp_path / "model.onnx")

    result = run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "onnx"))

    assert result.verdict == "verified"
    declared = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.output]
    if text != SHAPES["Slice"]:
        assert [list(array.shape) for array in _answers(result).values()] == declared


def _answers(result: ExportResult) -> dict[str, Any]:
    """What the source answered to the base."""
    with np.load(result.package_dir / "golden.npz") as archive:
        return {name: archive[name] for name in archive.files if name.startswith("output:")}


OLD = {
    "broadcast": "(float[N,4] x) => (float[N,2] y) <float[4,2] w = {1,2,3,4,5,6,7,8}, float[2] b = {1,-1}>"
    "{ m = MatMul (x, w) s = Add <broadcast=1, axis=1> (m, b) y = Relu (s) }",
    "convolution": "(float[N,1,4,4] x) => (float[N,1,2,2] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}>"
    "{ y = Conv <kernel_shape=[3,3]> (x, w) }",
}


@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
@pytest.mark.parametrize("text", OLD.values(), ids=OLD)
def test_models_of_opset_6_and_older_are_brought_to_a_newer_one(
    text: str, format_name: str, tmp_path: Path
) -> None:
    """onnxruntime has not all of their operators; ONNX's reference implementation runs them."""
    model = parser.parse_model(f'<ir_version: 3, opset_import: ["": 6]> g {text}')
    for weight in model.graph.initializer:  # as the first versions of the format wanted it
        value = helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        model.graph.input.append(value)
    onnx.save(model, tmp_path / "model.onnx")

    result = run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", format_name))

    assert result.verdict == "verified"
    assert {case["input_shapes"]["x"][0] for case in result.fidelity["cases"]} >= {1, 2, 3, 7}


def test_an_old_model_that_nothing_runs_is_refused(tmp_path: Path) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { y = Dropout <is_test=1> (x) }"
    onnx.save(parser.parse_model(f'<ir_version: 3, opset_import: ["": 6]> g {text}'), tmp_path / "model.onnx")

    with pytest.raises(InvalidSource, match="Neither onnxruntime nor ONNX's reference implementation"):
        run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "onnx"))


def test_a_model_that_only_the_target_runs_is_compared_with_the_reference(tmp_path: Path) -> None:
    text = "(float[3] x) => (float[3] y) { y = Sub <broadcast=1> (x, x) }"
    onnx.save(parser.parse_model(f'<ir_version: 3, opset_import: ["": 6]> g {text}'), tmp_path / "model.onnx")

    result = run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "openvino"))

    assert result.verdict == "verified"
    assert "reference implementation" in result.fidelity["reference"]
