"""Whatever is sent, the answer is tensors that fit the model, or a refusal; and it costs what it weighs.

Requests are right ones, with random damage: nodes of their JSON replaced, bytes changed, cut, repeated. The
seed is fixed, so a case that fails fails again.
"""

import base64
import gzip
import io
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from urllib3 import encode_multipart_formdata

from exporters.base import TensorSpec
from model_service.errors import InvalidRequest
from model_service.serving.protocols import encodings, items, npz, oip, platform, tensors
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

LIMIT_BYTES = 100_000
# Beside the body: modules that are imported meanwhile, caches, and what an answer of the tiny models takes.
SLACK_BYTES = 4_000_000
Case = Callable[[], object]

X = np.arange(8, dtype=np.float32).reshape(2, 4)
PICTURE = png(6, 4)
MODELS = [
    tensor_model(),
    tensor_model("float32", ("n", "m")),
    tensor_model("int8", (BATCH, "n")),
    tensor_model("bool", (2, 4)),
    tensor_model("float16", ()),
    model([TensorSpec("x", "float32", (BATCH, 4)), TensorSpec("z", "int64", ("n",))]),
    classifier(),
    detector(),
]
WEIGHTS = [6, 3, 1, 1, 1, 3, 3, 3, 1]
NASTY: list[Any] = [
    *(None, True, False, "", "x", "1", "\0", "é" * 50, [], {}, [[]], [{}], {"": {}}),
    *(0, -1, 1, 2**30, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, -(2**63), 1.5, -0.0, 1e39, 1e308),
    *([2**40, 2**40], [-1, 4], [2**28, 4], [1] * 70, [[1, 2], [3]], ["a" * 1000, *[""] * 1000]),
    *(
        "FP32",
        "FP64",
        "BYTES",
        "BOOL",
        "x",
        "y",
        "batch",
        "data:image/png;base64,",
        "AAAA",
        "../../etc/passwd",
    ),
    *({"binary_data_size": 2**30}, {"classification": 2**40}, {"shared_memory_region": "x"}),
    *([[[[[[1]]]]]], json.loads("[" * 60 + "]" * 60)),
]
TOKENS = [
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"9" * 40,
        b"null",
        b"[" * 2000,
        b"{" * 50,
        b'"',
        b"\\ud800",
        b"\0",
    ),
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\r\n\r\n", b"--", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY\x01\0"),
    *(
        b"(268435456, 4)",
        b"(1099511627776,)",
        b"'|O'",
        b"'<f8'",
        b"'|V1000000000'",
        b"'(9999999,9999)<f4'",
        b"(",
    ),
]


def oip_request(dice: random.Random) -> dict[str, Any]:
    request: dict[str, Any] = {
        "id": "1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.ravel().tolist()}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
        "parameters": {"binary_data_output": True},
    }
    if dice.random() < 0.5:
        del request["outputs"][0]["parameters"]["classification"]
    if dice.random() < 0.5:
        del request["inputs"][0]["data"]
        request["inputs"][0]["parameters"] = {"binary_data_size": 32}
    if dice.random() < 0.15:
        request["inputs"].append({"name": "z", "datatype": "INT64", "shape": [2], "data": [1, 2]})
    return request


def platform_request(dice: random.Random) -> dict[str, Any]:
    picture = base64.b64encode(PICTURE).decode()
    forms: list[dict[str, Any]] = [
        {"inputs": X.tolist()},
        {"inputs": {"x": X.tolist(), "z": [1, 2]}, "model": "m"},
        {"image": picture, "confidence_threshold": 0.5, "iou_threshold": 0.5, "max_detections": 10},
        {"images": [picture, picture], "top_k": 2},
        {"text": "one"},
    ]
    return dice.choice(forms)


def gnawed(node: Any, dice: random.Random) -> Any:
    """The document with some nodes replaced, dropped or renamed."""
    if dice.random() < 0.02:
        return dice.choice(NASTY)
    if isinstance(node, dict):
        return {
            (dice.choice(["", "x", "inputs", "model"]) if dice.random() < 0.02 else name): gnawed(value, dice)
            for name, value in node.items()
            if dice.random() > 0.01
        }
    if isinstance(node, list):
        return [gnawed(value, dice) for value in node] * (2 if dice.random() < 0.02 else 1)
    return node


def damaged(body: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice([0, 0, 0, 0, 1, 1, 4])):
        at, until = sorted(dice.randrange(len(body) + 1) for _ in range(2))
        match dice.randrange(5):
            case 0:
                body = body[:at] + dice.choice(TOKENS) + body[at:]
            case 1:
                body = body[:at]
            case 2:
                body = body[:at] + body[until:]
            case 3:
                body = body[:until] + body[at:]
            case 4:
                body = body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]
    return body[:50_000]


def bombs() -> list[bytes]:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((250_000, 4), np.float32))
    return [file.getvalue(), gzip.compress(bytes(4_000_000)), zlib.compress(bytes(4_000_000))]


BOMBS = bombs()


def bodies() -> list[tuple[bytes, str]]:
    form, content_type = encode_multipart_formdata(
        [("x", ("x.npy", npy(X))), ("image", ("a.png", PICTURE)), ("top_k", "2"), ("model", "m")], "b" * 20
    )
    gif = io.BytesIO()
    Image.new("L", (5, 5)).save(gif, "GIF")
    return [
        (npy(X), npz.NPY),
        (npy(np.asarray(X, order="F")), npz.NPY),
        (npz.write_npz({"x": X, "z": np.asarray([1, 2])}), npz.NPZ),
        (BOMBS[0], npz.NPZ),
        (form, content_type),
        (PICTURE, "image/png"),
        (gif.getvalue(), "image/*"),
        (npy(X), "application/octet-stream"),
    ]


BODIES = bodies()


def platform_case(dice: random.Random, of: Model) -> tuple[int, Case]:
    body, content_type = dice.choice(BODIES)
    if dice.random() < 0.5:
        body = json.dumps(gnawed(platform_request(dice), dice)).encode()
        content_type = "application/json"
    body = damaged(body, dice)
    accept = dice.choice(["", "*/*", npz.NPZ, npz.NPY, "a/b;q=x,,;", "\xff"])
    query = {dice.choice(["top_k", "model", "x"]): dice.choice(["1", "1e999", "", "9" * 5000, "nan"])}

    def case() -> object:
        decoded = platform.decode(
            body, content_type, query if dice.random() < 0.2 else None, limit_bytes=LIMIT_BYTES
        )
        assert decoded.model is None or isinstance(decoded.model, str)
        request = decoded.request(of, accept)
        check(request.inputs, of)
        return platform.answer(
            request,
            {"y": np.zeros((2, 3), np.float32)},
            deployment_id="d",
            model_version="v",
            member="m",
            latency_ms=1.0,
            predictions=None,
        )

    return len(body), case


def oip_case(dice: random.Random, of: Model) -> tuple[int, Case]:
    text = json.dumps(gnawed(oip_request(dice), dice)).encode()
    length: Any = dice.choice([None, len(text), len(text), str(len(text)), len(text) + dice.randrange(-9, 9)])
    if dice.random() < 0.1:
        length = dice.choice(["-1", "0", 0, "", "x", "1e9", "9" * 30, "²", 2**31, 2**63, " 10"])
    body = text + (X.tobytes() if length is not None and b"data" in text else b"")
    if dice.random() < 0.4:
        body = damaged(body, dice)
    encoding = dice.choice([None] * 6 + ["", "gzip", "deflate", "br", "GZIP", "x"])
    if encoding and dice.random() < 0.7:
        body = damaged(gzip.compress(body) if "z" in encoding.lower() else zlib.compress(body), dice)
        body = dice.choice([body, body, BOMBS[1], BOMBS[2]])

    def case() -> object:
        request = oip.decode(body, length, encoding, of, limit_bytes=LIMIT_BYTES)
        check(request.inputs, of)
        return oip.encode(
            request,
            {"y": np.ones((2, 3), np.float32)},
            model_name="m",
            model_version="1",
            accept_encoding=dice.choice(["gzip", "", "q=;,"]),
        )

    return len(body), case


def check(inputs: Any, of: Model) -> None:
    """A runtime may take them as they are."""
    assert inputs.keys() == {spec.name for spec in of.inputs}
    for name, expected in tensors.expected(of.inputs).items():
        array = inputs[name]
        assert array.dtype == expected.dtype
        assert expected.fits(array.shape)
        assert array.size
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.dtype != bool or array.view(np.uint8).max() <= 1


def run(seed: int, cases: int, models: list[Model]) -> dict[str, int]:
    dice = random.Random(seed)
    happened: dict[str, int] = {}
    tracemalloc.start()
    try:
        for number in range(cases):
            make = dice.choice([platform_case, oip_case])
            size, case = make(dice, dice.choices(models, WEIGHTS)[0])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            refusal = None
            try:
                case()
                kind = "answered"
            except InvalidRequest as exc:
                refusal = exc
                kind = type(exc).__name__
            except BaseException as exc:
                raise AssertionError(f"case {number} of seed {seed}: {exc!r}") from exc
            assert refusal is None or len(refusal.message) < 2000, f"case {number}: {refusal.message[:200]}"
            happened[kind] = happened.get(kind, 0) + 1
            grown = tracemalloc.get_traced_memory()[1] - before
            assert grown < 40 * size + 3 * LIMIT_BYTES + SLACK_BYTES, f"case {number}: {grown:,} of {size:,}"
    finally:
        tracemalloc.stop()
    return happened


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage to a GIF may make it as large as is allowed; that is tested elsewhere."""
    monkeypatch.setattr(items, "MAX_PIXELS", 100_000)


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    return [*MODELS, reader(tmp_path)]


def test_random_requests_are_answered_or_refused(models: list[Model]) -> None:
    happened = run(20, 2000, models)
    assert happened["answered"] > 100
    assert {"InvalidField", "InvalidJSON", "FileTooLarge", "UnsupportedOption"} <= happened.keys()


@pytest.mark.large
@pytest.mark.parametrize("seed", range(4))
def test_many_more_random_requests(seed: int, models: list[Model]) -> None:
    assert run(seed, 10_000, models)["answered"] > 500


def test_random_header_values() -> None:
    dice = random.Random(3)
    letters = "gzipdeflate;q=0.,* \t\xff"
    for _ in range(2000):
        accepted = "".join(dice.choices(letters, k=dice.randrange(30)))
        assert encodings.choose(accepted) in (None, "gzip", "deflate")
