"""The Open Inference Protocol, as ``tritonclient`` itself writes requests and reads answers."""

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from exporters.base import TensorSpec
from model_service.client.inference.open_inference import DTYPES
from model_service.errors import FileTooLarge, InvalidField, InvalidJSON, InvalidRequest, UnsupportedOption
from model_service.serving.protocols import Answer, oip
from tests.serving.protocols.models import BATCH, Model, classifier, model, tensor_model

X = np.arange(8, dtype=np.float32).reshape(2, 4)
Y = np.asarray([[0.25, 3.0, -1.0], [2.0, 1.0, 2.5]], dtype=np.float32)


def sent(*inputs: tuple[str, str, Any], binary: bool = True, **options: Any) -> tuple[bytes, int | None]:
    """The body and the header that the client makes of (name, datatype, array)."""
    given = []
    for name, datatype, array in inputs:
        given.append(InferInput(name, list(array.shape), datatype))
        given[-1].set_data_from_numpy(array, binary_data=binary)
    body, json_bytes = InferenceServerClient.generate_request_body(given, **options)
    return (body if isinstance(body, bytes) else body.encode()), json_bytes


def read(answer: Answer) -> Any:
    """The client's InferResult."""
    headers = dict(answer.headers)
    length = headers.get(oip.JSON_BYTES)
    return InferenceServerClient.parse_response_body(
        answer.body,
        header_length=int(length) if length else None,
        content_encoding=headers.get("content-encoding"),
    )


def encode(request: oip.Request, outputs: Any, **options: Any) -> Answer:
    return oip.encode(request, outputs, model_name="m", model_version="v1.0", **options)


@pytest.mark.parametrize(
    ("datatype", "dtype", "binary"),
    [(*one, True) for one in DTYPES.items()]
    + [(*one, False) for one in DTYPES.items() if one[0] != "FP16"],  # the client sends that only binary
)
def test_every_datatype_goes_both_ways(datatype: str, dtype: str, binary: bool) -> None:
    array = np.asarray([[0, 1, 1, 0], [1, 0, 0, 1]], dtype=dtype)
    asked = [InferRequestedOutput("y", binary_data=binary)]
    body, json_bytes = sent(("x", datatype, array), binary=binary, outputs=asked, request_id="the id")
    request = oip.decode(body, json_bytes, None, tensor_model(dtype))
    assert request.inputs["x"].dtype == array.dtype
    assert np.array_equal(request.inputs["x"], array)
    answer = encode(request, {"y": array})
    assert (oip.JSON_BYTES in dict(answer.headers)) == binary
    result = read(answer)
    assert np.array_equal(result.as_numpy("y"), array)
    assert result.as_numpy("y").dtype == array.dtype
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("the id", "m", "v1.0")


def test_without_outputs_the_client_wants_all_of_them_in_binary() -> None:
    body, json_bytes = sent(("x", "FP32", X))
    answer = encode(oip.decode(body, json_bytes, None, tensor_model()), {"y": Y, "z": X})
    assert answer.content_type == "application/octet-stream"
    assert np.array_equal(read(answer).as_numpy("y"), Y)
    assert np.array_equal(read(answer).as_numpy("z"), X)


def two_outputs() -> Model:
    outputs = [TensorSpec(name, "float32", (BATCH, 3)) for name in ("y", "z")]
    return model(tensor_model().inputs, outputs)


def test_a_request_chooses_outputs_and_how_each_comes() -> None:
    asked = [InferRequestedOutput("z", binary_data=False)]
    body, json_bytes = sent(("x", "FP32", X), outputs=asked)
    answer = encode(oip.decode(body, json_bytes, None, two_outputs()), {"y": Y, "z": Y + 1})
    assert answer.content_type == "application/json"
    assert [each["name"] for each in json.loads(answer.body)["outputs"]] == ["z"]
    asked.append(InferRequestedOutput("y", binary_data=True))
    body, json_bytes = sent(("x", "FP32", X), outputs=asked)
    result = read(encode(oip.decode(body, json_bytes, None, two_outputs()), {"y": Y, "z": Y + 1}))
    assert np.array_equal(result.as_numpy("z"), Y + 1)
    assert np.array_equal(result.as_numpy("y"), Y)


def test_json_without_a_word_about_binary_is_answered_with_json() -> None:
    body = json.dumps({"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": X.tolist()}]})
    answer = encode(oip.decode(body.encode(), None, None, tensor_model()), {"y": Y})
    (output,) = json.loads(answer.body)["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [2, 3], "data": Y.ravel().tolist()}


@pytest.mark.parametrize("data", [X.tolist(), X.ravel().tolist()])
def test_json_is_flat_or_nested(data: list[Any]) -> None:
    body = json.dumps({"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": data}]})
    assert np.array_equal(oip.decode(body.encode(), None, "", tensor_model()).inputs["x"], X)


def test_several_inputs_some_of_them_binary() -> None:
    two = model([TensorSpec("a", "int64", (2,)), TensorSpec("b", "float32", (BATCH, 4))])
    first = InferInput("b", [2, 4], "FP32").set_data_from_numpy(X)
    second = InferInput("a", [2], "INT64").set_data_from_numpy(np.asarray([5, 6]), binary_data=False)
    body, json_bytes = InferenceServerClient.generate_request_body([first, second])
    inputs = oip.decode(body, json_bytes, None, two).inputs
    assert np.array_equal(inputs["a"], [5, 6])
    assert np.array_equal(inputs["b"], X)


@pytest.mark.parametrize("padding", range(8))
def test_a_tensor_is_read_where_it_lies_if_it_is_aligned(padding: int) -> None:
    body, json_bytes = sent(("x", "FP32", X))
    assert json_bytes is not None
    text = body[:json_bytes] + b" " * padding
    whole = text + body[json_bytes:]
    tensor = oip.decode(whole, str(len(text)), None, tensor_model()).inputs["x"]
    assert np.array_equal(tensor, X)
    assert tensor.flags.aligned
    there = np.frombuffer(whole, np.uint8)
    assert np.shares_memory(tensor, there) == (len(text) % 4 == 0)


@pytest.mark.parametrize(
    ("shape", "raw"), [((BATCH, 4), X), ((2, 4), X), ((2, "n"), X), ((4,), X[0]), ((), X[0, 0])]
)
def test_a_body_that_is_all_tensor(shape: tuple[int | str, ...], raw: Any) -> None:
    request = oip.decode(raw.tobytes(), "0", None, tensor_model(shape=shape))
    assert np.array_equal(request.inputs["x"], raw)
    assert oip.JSON_BYTES in dict(encode(request, {"y": Y}).headers)


@pytest.mark.parametrize("shape", [(BATCH, 4), (BATCH, "n"), (3,)])
def test_a_body_that_tells_no_shape(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(InvalidField):
        oip.decode(b"12 bytes ...", "0", None, tensor_model("float64", shape))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_both_ways(algorithm: str, binary: bool) -> None:
    big = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    body, json_bytes = sent(("x", "FP32", big), outputs=[InferRequestedOutput("y", binary_data=binary)])
    packed = gzip.compress(body) if algorithm == "gzip" else zlib.compress(body)
    request = oip.decode(packed, json_bytes, algorithm, tensor_model())
    answer = encode(request, {"y": big}, accept_encoding=f"br, {algorithm};q=0.5")
    assert dict(answer.headers)["content-encoding"] == algorithm
    assert np.array_equal(read(answer).as_numpy("y"), big)


@pytest.mark.parametrize("accepted", ["", None, "identity", "br", "gzip;q=0", "gzip; q=0.00, deflate;q=0"])
def test_an_answer_is_not_compressed_unasked(accepted: str | None) -> None:
    body, json_bytes = sent(("x", "FP32", X))
    answer = encode(
        oip.decode(body, json_bytes, None, tensor_model()),
        {"y": np.zeros(9999, np.float32)},
        accept_encoding=accepted,
    )
    assert "content-encoding" not in dict(answer.headers)


def test_a_bomb_is_not_unpacked() -> None:
    for encoding, bomb in (("gzip", gzip.compress(bytes(10**7))), ("deflate", zlib.compress(bytes(10**7)))):
        with pytest.raises(FileTooLarge):
            oip.decode(bomb, None, encoding, tensor_model(), limit_bytes=10**6)


def test_an_encoding_that_nobody_knows() -> None:
    with pytest.raises(UnsupportedOption):
        oip.decode(b"{}", None, "br", tensor_model())
    for broken in (b"", b"{}", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x"):
        with pytest.raises(InvalidRequest):
            oip.decode(broken, None, "gzip", tensor_model())


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_classes_as_triton_answers_them(binary: bool) -> None:
    image = np.zeros((2, 3, 8, 8), np.float32)
    asked = [InferRequestedOutput("y", binary_data=binary, class_count=2)]
    body, json_bytes = sent(("x", "FP32", image), outputs=asked)
    result = read(encode(oip.decode(body, json_bytes, None, classifier()), {"y": Y}))
    best = [[b"3.000000:1:b", b"0.250000:0:a"], [b"2.500000:2:c", b"2.000000:0:a"]]
    found = result.as_numpy("y")
    assert [[one if isinstance(one, bytes) else one.encode() for one in row] for row in found] == best
    assert result.get_output("y")["datatype"] == "BYTES"


def test_classes_of_one_axis_and_of_what_has_no_names() -> None:
    asked = [InferRequestedOutput("y", class_count=9)]
    body, json_bytes = sent(("x", "FP32", X), outputs=asked)
    request = oip.decode(body, json_bytes, None, tensor_model())
    found = read(encode(request, {"y": np.asarray([3, 7], np.int32)})).as_numpy("y")
    assert found.tolist() == [b"7:1", b"3:0"]
    with pytest.raises(InvalidField):
        encode(request, {"y": np.asarray(["a"])})


@pytest.mark.parametrize("binary", [True, False])
def test_texts_and_odd_arrays_are_answered(binary: bool) -> None:
    asked = [InferRequestedOutput(name, binary_data=binary) for name in ("y", "z")]
    body, json_bytes = sent(("x", "FP32", X), outputs=asked)
    request = oip.decode(body, json_bytes, None, two_outputs())
    outputs = {"y": np.asarray([["cat", "ü"]]), "z": np.arange(6.0).astype(">f8").reshape(2, 3).T}
    result = read(encode(request, outputs))
    texts = result.as_numpy("y").ravel().tolist()
    assert [one.decode() if isinstance(one, bytes) else one for one in texts] == ["cat", "ü"]
    assert np.array_equal(result.as_numpy("z"), outputs["z"])


def test_bfloat16_is_answered() -> None:
    from ml_dtypes import bfloat16

    array = np.asarray([[1.5, -2.0]], bfloat16)
    for binary in (True, False):
        body, json_bytes = sent(("x", "FP32", X), outputs=[InferRequestedOutput("y", binary_data=binary)])
        answer = encode(oip.decode(body, json_bytes, None, tensor_model()), {"y": array})
        if binary:
            assert read(answer).as_numpy("y").astype(np.float32).tolist() == [[1.5, -2.0]]
        else:
            assert json.loads(answer.body)["outputs"][0]["data"] == [1.5, -2.0]


GOOD = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


def request_with(**changes: Any) -> bytes:
    return json.dumps({"inputs": [GOOD | changes]}).encode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'"text"', "inputs"),
        (b"{}", "inputs"),
        (b'{"inputs": {}}', "inputs"),
        (b'{"inputs": []}', "inputs"),
        (b'{"inputs": [1]}', "inputs"),
        (json.dumps({"inputs": [GOOD, GOOD]}).encode(), "inputs"),
        (request_with(name="z"), "inputs"),
        (request_with(name=None), "inputs"),
        (request_with(name=[]), "inputs"),
        (request_with(datatype="FP64"), "inputs.x.datatype"),
        (request_with(datatype="BYTES"), "inputs.x.datatype"),
        (request_with(datatype=["FP32"]), "inputs.x.datatype"),
        (request_with(shape=None), "inputs.x.shape"),
        (request_with(shape=[-1, 4]), "inputs.x.shape"),
        (request_with(shape=["batch", 4]), "inputs.x.shape"),
        (request_with(shape=[1.0, 4]), "inputs.x.shape"),
        (request_with(shape=[True, 4]), "inputs.x.shape"),
        (request_with(shape=[1] * 1000), "inputs.x.shape"),
        (request_with(shape=[1, 5]), "inputs.x"),
        (request_with(shape=[4]), "inputs.x"),
        (request_with(shape=[0, 4], data=[]), "inputs.x"),
        (request_with(shape=[2**62, 4]), "inputs.x.data"),
        (request_with(data=None), "inputs.x.data"),
        (request_with(data="AAAA"), "inputs.x.data"),
        (request_with(data=[1, 2, 3]), "inputs.x.data"),
        (request_with(data=[1, 2, 3, "4"]), "inputs.x.data"),
        (request_with(data=[1, 2, 3, 1e99]), "inputs.x.data"),
        (request_with(data=[[1, 2, 3, 4], [1, 2, 3, 4]]), "inputs.x.data"),
        (request_with(parameters=[]), "inputs.x.parameters"),
        (request_with(parameters={"shared_memory_region": "r"}), "inputs.x.parameters"),
        (request_with(parameters={"binary_data_size": 16}), "inputs.x"),
        (request_with(parameters={"binary_data_size": -16}), "inputs.x.parameters.binary_data_size"),
        (request_with(parameters={"binary_data_size": True}), "inputs.x.parameters.binary_data_size"),
        (request_with(parameters={"binary_data_size": "16"}), "inputs.x.parameters.binary_data_size"),
        (json.dumps({"inputs": [GOOD], "id": 7}).encode(), "id"),
        (json.dumps({"inputs": [GOOD], "parameters": 7}).encode(), "parameters"),
        (
            json.dumps({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}).encode(),
            "parameters.binary_data_output",
        ),
        (json.dumps({"inputs": [GOOD], "outputs": {"name": "y"}}).encode(), "outputs"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "no"}]}).encode(), "outputs"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": {}}]}).encode(), "outputs"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "y"}] * 2}).encode(), "outputs"),
        (
            json.dumps(
                {"inputs": [GOOD], "outputs": [{"name": "y", "parameters": {"classification": -1}}]}
            ).encode(),
            "outputs.y.parameters.classification",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: bytes, field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        oip.decode(body, None, None, tensor_model())
    assert [each["field"] for each in refusal.value.details["fields"]] == [field]
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "", " ", "x", "9" * 99, "٣", 10**9, "99999"])
def test_a_header_length_that_the_body_has_not(length: str | int) -> None:
    body, _ = sent(("x", "FP32", X))
    with pytest.raises(InvalidField) as refusal:
        oip.decode(body, length, None, tensor_model())
    assert refusal.value.details["fields"][0]["field"] == "Inference-Header-Content-Length"


def test_a_binary_body_that_is_too_short_or_too_long() -> None:
    body, json_bytes = sent(("x", "FP32", X))
    for wrong in (body[:-1], body + b"x", body[:json_bytes]):
        with pytest.raises(InvalidField):
            oip.decode(wrong, json_bytes, None, tensor_model())
    with pytest.raises(InvalidJSON):
        oip.decode(body, None, None, tensor_model())


def test_a_bool_that_is_neither_true_nor_false() -> None:
    body, json_bytes = sent(("x", "BOOL", np.ones((1, 4), bool)))
    with pytest.raises(InvalidField):
        oip.decode(body[:-1] + b"\x07", json_bytes, None, tensor_model("bool"))
