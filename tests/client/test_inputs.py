"""How inputs travel, and which are refused before anything is sent."""

import io
import json
from typing import Any

import numpy as np
import pytest

from exporters.base import TensorSpec
from model_service.client import InvalidArgument, ModelServiceClient, UnexpectedAnswer
from model_service.client.inputs import encode
from model_service.serving.tensors import parse

from .scripted import Scripted, answers

IMAGES = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


@pytest.mark.parametrize("array", [IMAGES, IMAGES.transpose(2, 1, 0), IMAGES[:, ::2], IMAGES.astype(">f8")])
def test_one_array_travels_as_npy(array: Any) -> None:
    body, content_type = encode(array)
    assert content_type == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(body), allow_pickle=False), array)


@pytest.mark.parametrize("given", [IMAGES, IMAGES.tolist(), {"x": IMAGES}], ids=["npy", "lists", "dict"])
def test_the_inference_server_reads_what_the_client_writes(given: Any) -> None:
    body, content_type = encode(given)
    read = parse(body, content_type, [TensorSpec("x", "float32", ("batch", 3, 2))])
    np.testing.assert_array_equal(read["x"], IMAGES)


def test_the_bytes_of_an_npy_file_travel_as_they_are() -> None:
    file = io.BytesIO()
    np.save(file, IMAGES)
    assert encode(file.getvalue()) == (file.getvalue(), "application/x-npy")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([[1, 2.5]], [[1, 2.5]]),
        ({"a": IMAGES[0], "b": [np.float32(0.5)]}, {"a": IMAGES[0].tolist(), "b": [0.5]}),
        ([IMAGES[0, 0]], [IMAGES[0, 0].tolist()]),
    ],
)
def test_everything_else_travels_as_json(inputs: Any, expected: Any) -> None:
    body, content_type = encode(inputs)
    assert content_type == "application/json"
    assert json.loads(body) == {"inputs": expected}


@pytest.mark.parametrize(
    "inputs",
    [[float("nan")], [[1.0], {2}], b"PK\x03\x04", np.array([object()]), {"x": object()}],
    ids=["nan", "set", "zip", "objects", "object"],
)
def test_what_cannot_travel_is_refused_with_a_reason(inputs: Any) -> None:
    with pytest.raises(InvalidArgument):
        encode(inputs)


def test_a_prediction_is_typed_and_an_answer_without_outputs_is_none(script: Scripted) -> None:
    answer = {"outputs": {"logits": [[0.1, 0.9]]}, "predictions": [1], "latency_ms": 0.4, "later": True}
    script.steps = [answers(200, json.dumps(answer).encode()), answers(200)]
    client = ModelServiceClient(script.url)
    prediction = client.predict(f"{script.url}/v1/infer/d1", [[1.0]])
    assert prediction.outputs == {"logits": [[0.1, 0.9]]}
    assert prediction.predictions == [1]
    assert prediction.raw == answer
    with pytest.raises(UnexpectedAnswer):
        client.predict(f"{script.url}/v1/infer/d1", [[1.0]])
