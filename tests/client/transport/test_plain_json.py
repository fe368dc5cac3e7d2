"""Values as they lie in a program: what is sent of them, and what comes back."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_service.client import InvalidArgument, ModelServiceClient
from model_service.client.transport.plain_json import encode


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.int64(2**62), 2**62),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("relu"), "relu"),
        (np.array([0.5], dtype=np.float32), 0.5),
        (np.array([[7]]), 7),
        (np.array(3), 3),
        (np.array([1.0, math.nan]), [1.0, "NaN"]),
        (float("nan"), "NaN"),
        (np.float32("inf"), "Infinity"),
        (-math.inf, "-Infinity"),
        ((1, 2), [1, 2]),
        (Path("weights/a.pt"), "weights/a.pt"),
        (datetime(2026, 11, 29, tzinfo=UTC), "2026-11-29T00:00:00+00:00"),
        ({1: "a", np.int64(2): "b"}, {"1": "a", "2": "b"}),
        (None, None),
    ],
)
def test_values_and_what_is_sent(value: Any, sent: Any) -> None:
    assert json.loads(encode({"x": value})) == {"x": sent}


def test_a_tensor_is_its_numbers() -> None:
    torch = pytest.importorskip("torch")
    loss = torch.tensor(0.5, requires_grad=True)
    assert json.loads(encode({"loss": loss, "sizes": torch.tensor([3, 4])})) == {"loss": 0.5, "sizes": [3, 4]}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j])
def test_what_json_has_not_is_named(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"metrics\.loss: a value of the type {type(value).__name__}"):
        encode({"metrics": {"loss": value}})


def test_a_list_in_itself_is_no_endless_loop() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="contain themselves"):
        encode(endless)


def test_metrics_come_back_as_the_numbers_that_they_were(client: ModelServiceClient) -> None:
    metrics = {"loss": math.nan, "best": np.float32(0.5), "val": {"worst": math.inf}, "note": "NaN came"}
    model = client.get_model(client.register_model(name="digits", algorithm="cnn", metrics=metrics))
    assert math.isnan(model.metrics["loss"])
    assert model.metrics["best"] == 0.5
    assert model.metrics["val"] == {"worst": math.inf}
    assert model.metrics["note"] == "NaN came"
    job = client.create_training_job(name="run", algorithm="cnn", metrics={"loss": math.nan})
    assert math.isnan(job.metrics["loss"])

    better = client.register_model(name="digits", algorithm="cnn", metrics={"loss": -math.inf})
    other = client.register_model(name="digits", algorithm="cnn", metrics={"loss": 3})
    found = client.list_models(sort="metrics.loss")
    assert [each.id for each in found] == [better, other]
    with client as same:
        assert same.update_model(other, metrics={"loss": np.int64(4)}).metrics == {"loss": 4}
