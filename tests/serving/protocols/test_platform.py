"""The platform's own requests: every form of them, and what is wrong with a wrong one."""

import base64
import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from urllib3 import encode_multipart_formdata

from exporters.base import TensorSpec
from model_service.errors import FileTooLarge, InvalidField, InvalidJSON, InvalidRequest, UnsupportedOption
from model_service.serving.protocols import items, npz, platform
from tests.serving.protocols.models import (
    BATCH,
    Model,
    classifier,
    detector,
    model,
    npy,
    png,
    reader,
    tensor_model,
)

X = np.arange(8, dtype=np.float32).reshape(2, 4)
RED, BLUE = png(16, 8, (255, 0, 0)), png(4, 4, (0, 0, 255))


def asked(content: Any, of: Model, accept: str = "", **options: Any) -> platform.Request:
    return platform.decode(json.dumps(content).encode(), "application/json", **options).request(of, accept)


def form(of: Model, *fields: tuple[str, Any], **options: Any) -> platform.Request:
    body, content_type = encode_multipart_formdata(fields)
    return platform.decode(body, content_type, **options).request(of)


def field_of(refusal: pytest.ExceptionInfo[InvalidField]) -> str:
    (one,) = refusal.value.details["fields"]
    return str(one["field"])


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def two_inputs() -> Model:
    return model([TensorSpec("a", "int64", ("n",)), TensorSpec("b", "float32", (BATCH, 4))])


@pytest.mark.parametrize("content_type", ["application/json", "", "application/json; charset=utf-8"])
@pytest.mark.parametrize("inputs", [X.tolist(), {"x": X.tolist()}])
def test_tensors_as_json(content_type: str, inputs: Any) -> None:
    body = json.dumps({"inputs": inputs}).encode()
    request = platform.decode(body, content_type).request(tensor_model(), "*/*")
    assert np.array_equal(request.inputs["x"], X)
    assert request.inputs["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (npy(X), "application/x-npy"),
        (npy(X), "application/octet-stream"),
        (npy(np.asfortranarray(X)), "application/x-npy"),
        (npy(X.astype(">f8")), "application/x-npy"),
        (npz.write_npz({"x": X}), "application/x-npz"),
        (npz.write_npz({"x": X}), "application/zip"),
        (npz.write_npz({"x": X}), "application/octet-stream"),
    ],
)
def test_tensors_as_bytes(body: bytes, content_type: str) -> None:
    request = platform.decode(body, content_type).request(tensor_model())
    assert np.array_equal(request.inputs["x"], X)
    assert request.inputs["x"].dtype == np.float32


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_several_inputs_in_one_npz_of_numpys(save: Any) -> None:
    file = io.BytesIO()
    save(file, a=np.asarray([1, 2]), b=X)
    inputs = platform.decode(file.getvalue(), npz.NPZ).request(two_inputs()).inputs
    assert np.array_equal(inputs["a"], [1, 2])
    assert np.array_equal(inputs["b"], X)


def test_a_stored_member_is_not_copied() -> None:
    body = npz.write_npz({"x": X.astype(np.uint8)})
    tensor = platform.decode(body, npz.NPZ).request(tensor_model("uint8")).inputs["x"]
    assert np.shares_memory(tensor, np.frombuffer(body, np.uint8))


def zipped(name: str = "x.npy", content: bytes | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, npy(X) if content is None else content)
    return file.getvalue()


def changed(body: bytes, at: int, *, of: bytes, value: bytes) -> bytes:
    """Bytes at an offset into the first record with this signature."""
    start = body.index(of) + at
    return body[:start] + value + body[start + len(value) :]


CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        zipped()[:-1],
        zipped()[:-23],
        zipped(content=b"text"),
        zipped(content=npy(X)[:-1]),
        changed(zipped(), 10, of=CENTRAL, value=struct.pack("<H", 12)),  # bzip2
        changed(zipped(), 8, of=CENTRAL, value=struct.pack("<H", 1)),  # encrypted
        changed(zipped(), 16, of=CENTRAL, value=b"\0\0\0\0"),  # the checksum
        changed(zipped(), 20, of=CENTRAL, value=struct.pack("<L", 10**6)),  # packed bytes
        changed(zipped(), 24, of=CENTRAL, value=struct.pack("<L", 10)),  # bytes
        changed(zipped(), 42, of=CENTRAL, value=struct.pack("<L", 2**32 - 1)),  # where it is
        changed(zipped(), 28, of=CENTRAL, value=struct.pack("<H", 60_000)),  # of its name
        changed(zipped(), 46, of=CENTRAL, value=b"\xff"),  # its name
        changed(zipped(), 10, of=END, value=struct.pack("<H", 60_000)),  # members
        changed(zipped(), 10, of=END, value=struct.pack("<H", 2)),
        changed(zipped(), 16, of=END, value=struct.pack("<L", 7)),  # where the directory is
        changed(zipped(method=zipfile.ZIP_DEFLATED), 50, of=b"PK\x03\x04", value=b"\xff\xff\xff"),
    ],
)
def test_a_zip_that_is_damaged(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        platform.decode(body, npz.NPZ)


def test_a_zip_that_unpacks_to_more_than_a_body() -> None:
    bomb = zipped(content=bytes(10**7), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    with pytest.raises(FileTooLarge):
        platform.decode(bomb, npz.NPZ, limit_bytes=10**6)
    lying = changed(bomb, 24, of=CENTRAL, value=struct.pack("<L", 100))
    with pytest.raises(InvalidJSON):
        platform.decode(lying, npz.NPZ, limit_bytes=10**6)


@pytest.mark.parametrize(
    ("save", "packed"), [(np.savez, False), (np.savez_compressed, True), (np.save, False)]
)
def test_what_has_to_be_unpacked_is_known_before(save: Any, packed: bool) -> None:
    stream = io.BytesIO()
    save(stream, np.zeros((100, 100), np.float32))
    assert npz.is_packed(stream.getvalue()) is packed
    assert npz.is_packed(stream.getvalue()[:-1]) is False


def test_members_that_share_their_bytes() -> None:
    """Each of them would be inflated again."""
    content = np.random.default_rng(0).bytes(1000)
    once = zipped("0.npy", content, zipfile.ZIP_DEFLATED)
    start, end = once.index(CENTRAL), once.index(END)
    entry = once[start:end]
    count = struct.pack("<HHL", 9, 9, 9 * len(entry))
    twice = once[:start] + b"".join(entry.replace(b"0.npy", b"%d.npy" % one) for one in range(9))
    twice += once[end : end + 8] + count + once[end + 16 :]
    with pytest.raises(InvalidJSON) as refusal:
        platform.decode(twice, npz.NPZ)
    assert "overlap" in refusal.value.message


def test_an_image_as_the_seed_sends_it() -> None:
    request = asked({"image": text(RED), "confidence_threshold": 0.5, "iou_threshold": 0.45}, detector())
    assert request.inputs["x"].shape == (1, 3, 32, 32)
    assert request.overrides == {"confidence_threshold": 0.5, "iou_threshold": 0.45}
    assert request.geometries is not None
    assert (request.geometries[0].width, request.geometries[0].height) == (16, 8)
    assert not request.shows_outputs


@pytest.mark.parametrize(
    "image",
    [
        text(RED),
        f"data:image/png;base64,{text(RED)}",
        f"data:image/png;name=a.png;base64,{text(RED)}",
        base64.encodebytes(RED).decode(),
    ],
)
def test_every_way_to_write_an_image(image: str) -> None:
    expected = classifier().pipeline.prepare([RED])[0]["x"]
    assert np.array_equal(asked({"image": image}, classifier()).inputs["x"], expected)


def test_images_come_in_every_form() -> None:
    expected = classifier().pipeline.prepare([RED, BLUE])[0]["x"]
    for request in (
        asked({"images": [text(RED), text(BLUE)]}, classifier()),
        form(classifier(), ("image", ("a.png", RED)), ("image", ("b.png", BLUE))),
        form(classifier(), ("images[]", ("a.png", RED)), ("images[]", ("b.png", BLUE))),
    ):
        assert np.array_equal(request.inputs["x"], expected)
    for kind in ("image/png", "application/octet-stream"):
        request = platform.decode(RED, kind).request(classifier())
        assert np.array_equal(request.inputs["x"], expected[:1])


def test_a_form_has_thresholds_and_a_model() -> None:
    body, content_type = encode_multipart_formdata(
        [("image", ("a.png", RED)), ("top_k", "2"), ("model", "second")]
    )
    decoded = platform.decode(body, content_type)
    assert decoded.model == "second"
    assert decoded.slow
    assert decoded.request(classifier()).overrides == {"top_k": 2}
    request = form(detector(), ("image", ("a.png", RED)), ("confidence_threshold", "0.5"))
    assert request.overrides == {"confidence_threshold": 0.5}


def test_a_form_of_tensors() -> None:
    request = form(two_inputs(), ("a", ("a.npy", npy(np.asarray([7])))), ("b", ("b.npy", npy(X))))
    assert np.array_equal(request.inputs["a"], [7])
    assert np.array_equal(request.inputs["b"], X)


def test_what_the_url_says_beside_a_body_without_fields() -> None:
    decoded = platform.decode(RED, "image/png", {"model": "m", "top_k": "3"})
    assert decoded.model == "m"
    assert decoded.request(classifier()).overrides == {"top_k": 3}


def test_the_model_is_known_before_the_tensors_are_read() -> None:
    decoded = platform.decode(b'{"model": "m", "inputs": [["nonsense"]]}')
    assert (decoded.model, decoded.slow) == ("m", False)
    assert platform.decode(b'{"inputs": ["a text, if the model takes texts"]}').slow
    with pytest.raises(InvalidField):
        decoded.request(tensor_model())
    with pytest.raises(InvalidField):
        _ = platform.decode(b'{"model": 3, "inputs": []}').model


def test_texts(tmp_path: Path) -> None:
    of = reader(tmp_path)
    for request in (
        asked({"texts": ["one", "two one"]}, of),
        form(of, ("text", "one"), ("text", "two one")),
    ):
        assert request.inputs["input_ids"].tolist() == [[2, 0], [3, 2]]
        assert request.inputs["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert asked({"text": "two"}, of).inputs["input_ids"].tolist() == [[3]]


def test_texts_that_would_grow(tmp_path: Path) -> None:
    """Every text becomes as long as the longest, or as the declaration says."""
    longest = {"texts": ["one " * 2000, *["two"] * 2000]}
    with pytest.raises(InvalidField) as refusal:
        asked(longest, reader(tmp_path, truncation=False), limit_bytes=10**6)
    assert "send fewer" in refusal.value.message
    with pytest.raises(InvalidField):
        asked({"text": "one"}, reader(tmp_path, padding="max_length", max_length=10**6), limit_bytes=10**6)
    assert asked({"texts": ["one"] * 50}, reader(tmp_path), limit_bytes=10**5).inputs["input_ids"].size == 50


@pytest.mark.parametrize(
    ("content", "of", "field"),
    [
        ({}, tensor_model(), "inputs"),
        ({"inputs": [1], "image": ""}, tensor_model(), "inputs"),
        ({"inputs": {"y": X.tolist()}}, tensor_model(), "inputs.y"),
        ({"inputs": {}}, tensor_model(), "inputs.x"),
        ({"inputs": X.tolist()}, two_inputs(), "inputs"),
        ({"input": X.tolist()}, tensor_model(), "input"),
        ({"image": text(RED), "confidence_treshold": 1}, classifier(), "confidence_treshold"),
        ({"image": text(RED)}, tensor_model(), "image"),
        ({"text": "one"}, classifier(), "text"),
        ({"image": "/etc/passwd"}, classifier(), "image"),
        ({"image": text(b"/etc/passwd")}, classifier(), "image"),
        ({"image": None}, classifier(), "image"),
        ({"image": 7}, classifier(), "image"),
        ({"image": ""}, classifier(), "image"),
        ({"image": "not base64!"}, classifier(), "image"),
        ({"image": "data:image/png,abc"}, classifier(), "image"),
        ({"image": text(RED[:50])}, classifier(), "image"),
        ({"image": [text(RED)]}, classifier(), "image"),
        ({"images": text(RED)}, classifier(), "images"),
        ({"images": []}, classifier(), "images"),
        ({"images": [text(RED), None]}, classifier(), "images"),
        ({"image": text(RED), "top_k": 0}, classifier(), "top_k"),
        ({"image": text(RED), "top_k": 1.5}, classifier(), "top_k"),
        ({"image": text(RED), "iou_threshold": 0.5}, classifier(), "iou_threshold"),
        ({"image": text(RED), "top_k": 1}, detector(), "top_k"),
        ({"image": text(RED), "confidence_threshold": 2}, detector(), "confidence_threshold"),
        ({"image": text(RED), "confidence_threshold": "0.5"}, detector(), "confidence_threshold"),
        ({"image": text(RED), "max_detections": True}, detector(), "max_detections"),
        ({"inputs": X.tolist(), "top_k": 1}, tensor_model(), "top_k"),
    ],
)
def test_a_wrong_field_is_named(content: Any, of: Model, field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        asked(content, of)
    assert field_of(refusal) == field


def test_a_path_is_never_opened(tmp_path: Path) -> None:
    """A text is an image's base64 or nothing, whatever the pipeline would do with a path."""
    path = tmp_path / "a.png"
    path.write_bytes(RED)
    for content in ({"image": str(path)}, {"images": [str(path)]}):
        with pytest.raises(InvalidField):
            asked(content, classifier())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ([("image", ("a.png", b"no image"))], "images"),
        ([("x", ("a.bin", b"no array"))], "x"),
        ([("x", ("a.npy", npy(X))), ("x", ("a.npy", npy(X)))], "inputs.x"),
        ([("image", ("a.png", RED)), ("top_k", "many")], "top_k"),
        ([("image", ("a.png", RED)), ("top_k", "1"), ("top_k", "2")], "top_k"),
        ([("image", ("a.png", RED)), ("top_k", b"\xff")], "top_k"),
        ([("image", ("a.png", RED)), ("colour", "red")], "colour"),
        ([("top_k", "1")], "inputs"),
    ],
)
def test_a_wrong_part_is_named(fields: Any, field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        form(classifier(), *fields)
    assert field_of(refusal) == field


BODY, CONTENT_TYPE = encode_multipart_formdata([("image", ("a.png", RED))], "the-boundary")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", CONTENT_TYPE),
        (BODY[:-10], CONTENT_TYPE),
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary="),
        (BODY, "multipart/form-data; boundary=other"),
        (BODY, f"multipart/form-data; boundary={'x' * 300}"),
        (BODY.replace(b"Content-Disposition", b"Content-Something"), CONTENT_TYPE),
        (BODY.replace(b'name="image"; ', b""), CONTENT_TYPE),
        (BODY.replace(b"Content-Type", b"A: " + b";a=b" * 10_000 + b"\r\nContent-Type"), CONTENT_TYPE),
        (BODY.split(b"--the-boundary--")[0] * 300 + b"--the-boundary--\r\n", CONTENT_TYPE),
    ],
)
def test_a_form_that_is_not_whole(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        platform.decode(body, content_type)


def test_a_large_file_in_a_form() -> None:
    array = np.random.default_rng(0).integers(0, 256, (1, 300_000), np.uint8)
    request = form(tensor_model("uint8", (BATCH, 300_000)), ("x", ("x.npy", npy(array))))
    assert np.array_equal(request.inputs["x"], array)


def test_an_image_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("1", (8000, 6300)).save(file, "PNG")
    huge = file.getvalue()
    assert len(huge) < 10_000
    with pytest.raises(InvalidField) as refusal:
        asked({"image": text(huge)}, classifier())
    assert "pixels" in refusal.value.message
    monkeypatch.setattr(items, "MAX_PIXELS", 200)
    assert asked({"image": text(RED)}, classifier()).inputs["x"].shape[0] == 1
    with pytest.raises(InvalidField):
        asked({"images": [text(RED), text(RED)]}, classifier())


def test_many_tiny_images_that_would_grow() -> None:
    """Each becomes 768 bytes of float32 for the model, of 70 in the request."""
    tiny = text(png(1, 1))
    with pytest.raises(InvalidField) as refusal:
        asked({"images": [tiny] * 200}, classifier(), limit_bytes=100_000)
    assert "send fewer" in refusal.value.message
    assert asked({"images": [tiny] * 100}, classifier(), limit_bytes=100_000).inputs["x"].shape[0] == 100


@pytest.mark.parametrize("size", [(8, 8), (16, 8)])
def test_an_image_where_no_resize_is_declared(size: tuple[int, int]) -> None:
    of = model([TensorSpec("x", "float32", (BATCH, 3, 8, 8))], preprocessing={"resize": None})
    if size == (8, 8):
        assert asked({"image": text(png(*size))}, of).inputs["x"].shape == (1, 3, 8, 8)
        return
    with pytest.raises(InvalidField) as refusal:
        asked({"image": text(png(*size))}, of)
    assert field_of(refusal) == "image"


def answered(request: platform.Request, outputs: Any, predictions: Any = None, **options: Any) -> Any:
    return platform.answer(
        request,
        outputs,
        deployment_id="d",
        model_version="v1.0",
        member="v1.0",
        latency_ms=1.23456,
        predictions=predictions,
        **options,
    )


def test_an_answer_in_json() -> None:
    request = asked({"inputs": X.tolist()}, tensor_model())
    answer = answered(request, {"y": X, "label": np.asarray(["a", "b"])}, [[]])
    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {
        "deployment_id": "d",
        "model_version": "v1.0",
        "member": "v1.0",
        "latency_ms": 1.235,
        "outputs": {"y": X.tolist(), "label": ["a", "b"]},
        "predictions": [[]],
    }


def test_an_image_is_answered_with_predictions_and_not_with_tensors() -> None:
    request = asked({"image": text(RED)}, classifier())
    assert "outputs" not in json.loads(answered(request, {"y": X}, [[]]).body)
    assert json.loads(answered(request, {"y": X}, None).body)["outputs"] == {"y": X.tolist()}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/x-npz", "application/x-npz"),
        ("application/x-npy", "application/x-npy"),
        ("text/html, application/x-npz;q=0.9, */*;q=0.8", "application/x-npz"),
        ("application/json, application/x-npz", "application/json"),
        ("text/html", "application/json"),
        ("*/*;q=0.1", "application/json"),
    ],
)
def test_the_answer_is_what_the_client_accepts(accept: str, content_type: str) -> None:
    answer = answered(asked({"inputs": X.tolist()}, tensor_model(), accept), {"y": X})
    assert answer.content_type == content_type
    if content_type == npz.NPZ:
        assert np.array_equal(np.load(io.BytesIO(answer.body))["y"], X)
    elif content_type == npz.NPY:
        assert np.array_equal(np.load(io.BytesIO(answer.body)), X)
    if content_type != "application/json":
        headers = {"x-deployment-id": "d", "x-model-version": "v1.0", "x-member": "v1.0"}
        assert dict(answer.headers) == headers | {"x-latency-ms": "1.235"}


@pytest.mark.parametrize("accept", ["", npz.NPZ, npz.NPY])
def test_compressed_both_ways(accept: str) -> None:
    body = gzip.compress(json.dumps({"inputs": X.tolist()}).encode())
    request = platform.decode(body, "application/json", content_encoding="gzip").request(
        tensor_model(), accept
    )
    assert np.array_equal(request.inputs["x"], X)
    answer = answered(request, {"y": np.zeros((50, 50))}, accept_encoding="gzip")
    assert dict(answer.headers)["content-encoding"] == "gzip"
    plain = answered(request, {"y": np.zeros((50, 50))})
    assert gzip.decompress(answer.body) == plain.body
    assert len(answer.body) < len(plain.body) / 4
    with pytest.raises(FileTooLarge):
        platform.decode(gzip.compress(bytes(10**6)), content_encoding="gzip", limit_bytes=10**5)


def test_two_outputs_are_no_npy() -> None:
    outputs = [TensorSpec(name, "float32", (BATCH, 3)) for name in ("y", "z")]
    with pytest.raises(UnsupportedOption):
        asked({"inputs": X.tolist()}, model(tensor_model().inputs, outputs), npz.NPY)
