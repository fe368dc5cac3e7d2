"""Predictions by both clients: what travels, and what comes back."""

import io
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import polars
import pytest
from PIL import Image

from model_service.client import InvalidArgument, InvalidRequest
from model_service.serving.protocols import platform

from ..scripted import Request, Scripted, answers
from ..wire import ONE, Predict, X, echoes, endpoint, posts

CLASSES = answers(200, b'{"predictions": [[{"class": "cat", "confidence": 0.9}]], "latency_ms": 1.5}')


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP32", X),
        ("FP32", X.T),
        ("FP32", X.astype(">f4")),
        ("FP32", np.float32(2.5)),
        ("FP16", X.astype(np.float16)),
        ("FP64", X.astype(np.float64)),
        ("BOOL", X > 2),
        ("UINT8", X.astype(np.uint8)),
        ("INT64", np.array([[-(2**62)], [2**62]])),
        ("FP32", np.empty((0, 3), np.float32)),
    ],
)
def test_an_array_comes_back_as_it_went(
    script: Scripted, predict: Predict, datatype: str, array: Any
) -> None:
    script.steps = [echoes({"x": datatype})]
    prediction = predict(endpoint(script), array)
    back = prediction.outputs["echo_x"]
    assert back.dtype == np.asarray(array).dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)
    back += 1 if datatype != "BOOL" else True  # one's own, to be changed
    assert (prediction.model_version, prediction.deployment_id) == ("v1.0", "d1")
    assert urlsplit(posts(script)[0].path).path == "/v2/models/d1/infer"


def test_the_headers_of_arrays_tell_what_json_tells_beside_them(script: Scripted, predict: Predict) -> None:
    text = b'{"model_name": "pets", "model_version": "v1.0", "outputs": []}'
    told = {"X_Deployment_Id": "d1", "X_Member": "blue", "X_Latency_Ms": "1.235"}
    script.steps = [echoes(ONE), answers(200, text, **told), answers(200, text)]
    first, older = (predict(endpoint(script), X) for _ in range(2))
    assert (first.deployment_id, first.model_version, first.member) == ("d1", "v1.0", "blue")
    assert first.latency_ms == 1.235
    assert (older.deployment_id, older.member, older.latency_ms) == ("pets", None, None)


def test_several_inputs_and_texts_go_by_their_names(script: Scripted, predict: Predict) -> None:
    script.steps = [echoes({"words": "BYTES", "raw": "BYTES", "x": "FP32"})]
    words = np.array([["kött", ""], ["a", "b\n"]])
    given = {"words": words, "raw": np.array([b"\x00\xff", "é"], dtype=object), "x": [[1, 2]]}
    outputs = predict(endpoint(script), given).outputs
    assert [[each.decode() for each in row] for row in outputs["echo_words"]] == words.tolist()
    assert outputs["echo_raw"].tolist() == [b"\x00\xff", "é".encode()]
    assert outputs["echo_x"].tolist() == [[1.0, 2.0]]


def test_bfloat16_is_read_as_float32(script: Scripted, predict: Predict) -> None:
    output = {"name": "y", "datatype": "BF16", "shape": [2], "parameters": {"binary_data_size": 4}}
    text = json.dumps({"model_name": "d1", "outputs": [output]}).encode()
    raw = bytes([0x80, 0x3F, 0x20, 0xC0])  # 1.0 and -2.5, the upper halves of their float32
    answer = answers(200, text + raw, Inference_Header_Content_Length=str(len(text)))
    script.steps = [echoes(ONE), answer]
    assert predict(endpoint(script), X).outputs["y"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP32", X.astype(np.float64)),
        ("FP32", X.astype(np.int64)),
        ("FP32", X > 2),
        ("INT32", X.astype(np.int64)),
    ],
)
def test_numbers_become_the_models_own(script: Scripted, predict: Predict, datatype: str, array: Any) -> None:
    script.steps = [echoes({"x": datatype})]
    back = predict(endpoint(script), array).outputs["echo_x"]
    assert back.dtype == {"FP32": np.float32, "INT32": np.int32}[datatype]
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("datatype", "array"),
    [("FP16", np.array([1e9])), ("INT32", np.array([2**40])), ("INT32", X), ("FP32", np.array(["a"]))],
    ids=["overflow", "wrap", "truncation", "text"],
)
def test_what_would_lose_more_than_precision_is_left_to_the_server_to_refuse(
    script: Scripted, predict: Predict, datatype: str, array: Any
) -> None:
    script.steps = [echoes({"x": datatype})]
    with pytest.raises(InvalidRequest, match=f"takes {{'x': '{datatype}'}}"):
        predict(endpoint(script), array)
    assert len(posts(script)) == 1


def test_one_array_for_several_inputs_is_refused_with_their_names(script: Scripted, predict: Predict) -> None:
    script.steps = [echoes({"image": "FP32", "mask": "BOOL"})]
    with pytest.raises(InvalidArgument, match="'image', 'mask'"):
        predict(endpoint(script), X)


def test_what_the_model_takes_is_asked_once_and_again_when_it_is_another(
    script: Scripted, predict: Predict
) -> None:
    script.steps = [echoes(ONE)]
    for _ in range(3):
        predict(endpoint(script), X)
    assert [request.method for request in script.requests] == ["GET", "POST", "POST", "POST"]
    script.steps = [echoes({"pixels": "FP64"})]
    assert predict(endpoint(script), X).outputs["echo_pixels"].tolist() == X.tolist()
    assert [request.method for request in script.requests[4:]] == ["POST", "GET", "POST"]


def test_a_model_of_several_is_named(script: Scripted, predict: Predict) -> None:
    script.steps = [echoes(ONE), echoes(ONE), CLASSES]
    predict(endpoint(script), X, model="v2/β")
    predict(endpoint(script), [[1.0]], model="v2/β")
    assert [request.path for request in posts(script)] == [
        "/v2/models/d1/versions/v2%2F%CE%B2/infer",
        "/v1/infer/d1?model=v2%2F%CE%B2",
    ]


@pytest.mark.parametrize(
    "path", ["/v1/infer/d1", "/v2/models/d1", "/v2/models/d1/infer", "/gate/v1/infer/d1"]
)
def test_any_address_of_an_endpoint_will_do(script: Scripted, predict: Predict, path: str) -> None:
    script.steps = [echoes(ONE)]
    predict(f"{script.url}{path}", X)
    prefix = "/gate" if path.startswith("/gate") else ""
    assert posts(script)[0].path == f"{prefix}/v2/models/d1/infer"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api/v1/models", "http://127.0.0.1:9/v1/infer/"])
def test_an_address_of_none_is_refused(predict: Predict, address: str) -> None:
    with pytest.raises(InvalidArgument, match="not the address of an endpoint"):
        predict(address, X)


def read(request: Request) -> platform.Decoded:
    """As the inference server does."""
    query = dict(parse_qsl(urlsplit(request.path).query))
    return platform.decode(request.body, request.headers["content-type"], query)


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_a_picture_arrives_with_every_pixel(script: Scripted, predict: Predict, mode: str) -> None:
    script.steps = [CLASSES]
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    assert predict(endpoint(script), picture).predictions == [[{"class": "cat", "confidence": 0.9}]]
    expected = picture.convert("RGB") if mode == "CMYK" else picture
    np.testing.assert_array_equal(pixels(read(script.requests[0]).fields["image"]), np.asarray(expected))


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "array"])
def test_an_image_may_be_a_file_its_bytes_or_its_pixels(
    script: Scripted, predict: Predict, tmp_path: Path, kind: str
) -> None:
    script.steps = [CLASSES]
    noise = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    file = tmp_path / "cat.png"
    Image.fromarray(noise).save(file)
    image = {"path": file, "text": str(file), "bytes": file.read_bytes(), "array": noise}[kind]
    predict(endpoint(script), image=image, confidence_threshold=0.5, iou_threshold=0.45, max_detections=3)
    sent = read(script.requests[0])
    assert script.requests[0].headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels(sent.fields["image"]), noise)
    chosen = {name: value for name, value in sent.fields.items() if name != "image"}
    assert chosen == {"confidence_threshold": 0.5, "iou_threshold": 0.45, "max_detections": 3}


def test_several_images_and_texts_go_in_one_request(script: Scripted, predict: Predict) -> None:
    script.steps = [CLASSES]
    first, second = (np.full((2, 2, 3), value, np.uint8) for value in (10, 20))
    predict(endpoint(script), image=[first, second], top_k=2)
    predict(endpoint(script), text=["a cat", "ett djur"])
    predict(endpoint(script), text="kött")
    sent = [read(request).fields for request in script.requests]
    assert [pixels(content).flat[0] for content in sent[0]["images"]] == [10, 20]
    assert sent[0]["top_k"] == 2
    assert sent[1:] == [{"texts": ["a cat", "ett djur"]}, {"text": "kött"}]


def test_records_are_rows_a_data_frame_or_a_file(script: Scripted, predict: Predict, tmp_path: Path) -> None:
    script.steps = [CLASSES]
    rows = [{"age": 30, "city": "Nice"}, {"age": None, "city": "Oslo"}]
    with_nan = [{"age": np.float32(30), "city": "Nice"}, {"age": float("nan"), "city": "Oslo"}]
    for records in (rows, tuple(with_nan), polars.DataFrame(rows)):
        predict(endpoint(script), records=records, top_k=1)
    predict(endpoint(script), records=rows[0])
    assert [read(request).fields["records"] for request in script.requests] == [rows] * 3 + [rows[:1]]
    file = tmp_path / "rows.csv"
    file.write_bytes(b"age,city\n30,Nice\n")
    predict(endpoint(script), records=file)
    assert script.requests[-1].body == file.read_bytes()
    assert script.requests[-1].headers["content-type"] == "text/csv"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"records": [[1, 2]]}, "list of dicts"),
        ({"records": {"when": object()}}, "cannot be sent as JSON"),
        ({"records": [{"age": math.inf}]}, "cannot be sent as JSON"),
        ({"records": "rows.txt"}, "not a .csv"),
        ({"records": "nowhere.parquet"}, "cannot be read"),
        ({"records": [{}], "text": "x"}, "one of inputs"),
        ({}, "one of inputs"),
        ({"inputs": X, "image": X}, "one of inputs"),
        ({"image": X}, "uint8 array"),
        ({"image": b"PK\x03\x04"}, "not a PNG"),
        ({"image": "/no/such/file.png"}, "no file /no/such/file.png"),
        ({"inputs": X, "top_k": 3, "predictions": False}, "predictions=False"),
        ({"inputs": np.array([object()])}, "this array is object"),
        ({"inputs": np.array([1j])}, "this array is complex128"),
        ({"inputs": b"neither"}, "neither a .npy or .npz file nor an image"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is_computed(
    script: Scripted, predict: Predict, given: dict[str, Any], said: str
) -> None:
    script.steps = [echoes(ONE)]
    with pytest.raises(InvalidArgument, match=said):
        predict(endpoint(script), **given)
    assert posts(script) == []


def test_arrays_may_be_read_by_the_service_too(script: Scripted, predict: Predict) -> None:
    answer = {"outputs": {"logits": [[0.5, None]], "ragged": [[1], [1, 2]]}, "predictions": [[{"class": 0}]]}
    script.steps = [answers(200, json.dumps(answer).encode())]
    prediction = predict(endpoint(script), {"x": X, "file": [[1]]}, predictions=True)
    assert prediction.predictions == [[{"class": 0}]]
    assert prediction.outputs["logits"].dtype == np.float64
    np.testing.assert_array_equal(prediction.outputs["logits"], [[0.5, np.nan]])
    assert prediction.outputs["ragged"] == [[1], [1, 2]]
    sent = read(script.requests[0]).fields["inputs"]
    np.testing.assert_array_equal(sent["x"], X)
    assert sent["file"].tolist() == [[1]]


def test_lists_go_and_come_as_json(script: Scripted, predict: Predict) -> None:
    script.steps = [answers(200, b'{"outputs": {"logits": [[0.5]]}, "predictions": null, "member": "a"}')]
    prediction = predict(endpoint(script), [[1, 2]])
    assert (prediction.outputs, prediction.predictions, prediction.member) == ({"logits": [[0.5]]}, None, "a")
    assert script.requests[0].body == b'{"inputs": [[1, 2]]}'
