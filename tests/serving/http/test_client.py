"""The project's own client, synchronous and on asyncio, against the real inference server."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from model_service.client import (
    AsyncInferenceClient,
    InvalidRequest,
    ModelServiceClient,
    NotFound,
    Prediction,
    Unauthorized,
)
from tests.serving.conftest import KEY, Endpoint, World

Predict = Callable[..., Prediction]

X = np.asarray([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], dtype=np.float32)


@pytest.fixture(params=["sync", "async"])
def predict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predict]:
    monkeypatch.setenv("MODEL_SERVICE_DEPLOYMENT_KEY", KEY)
    if request.param == "sync":
        with ModelServiceClient("http://127.0.0.1:9") as client:
            yield client.predict
        return
    with asyncio.Runner() as runner:
        asking = AsyncInferenceClient()
        yield lambda *args, **more: runner.run(asking.predict(*args, **more))
        runner.run(asking.close())


def url(served: Endpoint, name: str | None = None) -> str:
    return f"{served.url}/v1/infer/{name or served.deployment_id}"


@pytest.mark.parametrize(
    "inputs", [X, X.astype(np.float64), X.astype(np.float16), {"x": X}], ids=["f4", "f8", "f2", "dict"]
)
def test_arrays_in_arrays_out(served: Endpoint, predict: Predict, inputs: Any) -> None:
    prediction = predict(url(served), inputs)
    expected = 2 * np.asarray(inputs["x"] if isinstance(inputs, dict) else inputs, np.float32)
    assert prediction.outputs["output"].dtype == np.float32
    np.testing.assert_array_equal(prediction.outputs["output"], expected)
    assert (prediction.model_version, prediction.member, prediction.predictions) == ("v1.0", "v1.0", None)
    assert prediction.deployment_id == served.deployment_id
    assert prediction.latency_ms is not None
    assert prediction.latency_ms > 0


def test_lists_and_whatever_the_service_reads_in_them(served: Endpoint, predict: Predict) -> None:
    plain = predict(url(served), X.tolist(), top_k=1)
    assert plain.outputs == {"output": (2 * X).tolist()}
    read = predict(url(served), X, predictions=True, top_k=1)
    np.testing.assert_array_equal(read.outputs["output"], 2 * X)
    assert read.predictions == plain.predictions
    assert [row[0]["class"] for row in read.predictions or ()] == ["c", "a"]
    assert (read.member, read.deployment_id) == ("v1.0", served.deployment_id)
    assert read.latency_ms is not None


def test_one_of_several_models(
    world: World, package_zip: bytes, listen: Callable[..., Endpoint], predict: Predict
) -> None:
    members = [world.member(package_zip, name=name, model_version=name) for name in ("cats", "dogs-2.0")]
    deployment_id = world.deploy_routing({"mode": "models", "members": members}, name="zoo")
    served = listen(world.serving(deployment_id), deployment_id)
    for name in ("cats", "dogs-2.0"):
        assert predict(url(served), X, model=name).model_version == name
        assert predict(url(served, "zoo"), X.tolist(), model=name).member == name
    with pytest.raises(InvalidRequest, match="fish"):
        predict(url(served), X, model="fish")


def test_refusals_are_typed_in_both_protocols(served: Endpoint, predict: Predict) -> None:
    for inputs in (X, X.tolist()):
        with pytest.raises(Unauthorized):
            predict(url(served), inputs, api_key="pk_wrong")
        with pytest.raises(NotFound):
            predict(url(served, "nobody"), inputs)
    for inputs in ({"y": X}, {"y": X.tolist()}, X[:, :2], X[:, :2].tolist()):
        with pytest.raises(InvalidRequest, match="inputs"):
            predict(url(served), inputs)
