"""How inputs travel, and which are refused before anything is sent."""

import io
import json
from typing import Any

import numpy as np
import pytest

from model_service.client import InvalidArgument, ModelServiceClient, UnexpectedAnswer
from model_service.client.inference.inputs import encode
from model_service.serving.protocols import platform

from ..scripted import Scripted, answers

IMAGES = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


@pytest.mark.parametrize("array", [IMAGES, IMAGES.transpose(2, 1, 0), IMAGES[:, ::2], IMAGES.astype(">f8")])
def test_one_array_travels_as_npy(array: Any) -> None:
    body, content_type = encode(array)
    assert content_type == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(body), allow_pickle=False), array)


@pytest.mark.parametrize("given", [IMAGES, IMAGES.tolist(), {"x": IMAGES}], ids=["npy", "lists", "dict"])
def test_the_inference_server_reads_what_the_client_writes(given: Any) -> None:
    body, content_type = encode(given)
    read = platform.decode(body, content_type).fields["inputs"]
    if isinstance(read, dict):
        (read,) = read.values()
    np.testing.assert_array_equal(read, IMAGES)


@pytest.mark.parametrize(
    ("save", "content_type"), [(np.save, "application/x-npy"), (np.savez, "application/x-npz")]
)
def test_the_bytes_of_a_file_travel_as_they_are(save: Any, content_type: str) -> None:
    file = io.BytesIO()
    save(file, IMAGES)
    assert encode(file.getvalue()) == (file.getvalue(), content_type)


def test_several_arrays_travel_as_npz_whatever_they_are_called() -> None:
    body, content_type = encode({"file": IMAGES, "lists": [[1, 2]]})
    assert content_type == "application/x-npz"
    with np.load(io.BytesIO(body), allow_pickle=False) as read:
        np.testing.assert_array_equal(read["file"], IMAGES)
        assert read["lists"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([[1, 2.5]], [[1, 2.5]]),
        ({"a": IMAGES[0].tolist(), "b": [np.float32(0.5)]}, {"a": IMAGES[0].tolist(), "b": [0.5]}),
        ([IMAGES[0, 0]], [IMAGES[0, 0].tolist()]),
    ],
)
def test_everything_else_travels_as_json(inputs: Any, expected: Any) -> None:
    body, content_type = encode(inputs)
    assert content_type == "application/json"
    assert json.loads(body) == {"inputs": expected}


@pytest.mark.parametrize(
    "inputs",
    [[float("nan")], [[1.0], {2}], b"\x89PNG", np.array([object()]), {"x": object()}],
    ids=["nan", "set", "bytes", "objects", "object"],
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
