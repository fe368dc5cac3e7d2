"""Under mixed load each answer is the one that the same request has alone."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

from exporters import convert, package
from exporters.request import ExportRequest
from tests.serving.conftest import KEY, Endpoint, World

REQUESTS = 60


class Divided(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.abs().amax()


class TrainedNorm(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


class SoftmaxOfBatch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(0)


class Cumulative(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(0)


class Sorted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.topk(1, dim=0).values + 0 * x


class Alone(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)


def archived(module: torch.nn.Module, folder: Path) -> bytes:
    shapes = ({0: Dim("batch", max=64)},)
    # Wide: a model that is not tiny runs in the engine's threads, where requests wait for each other.
    torch.export.save(
        torch.export.export(module, (torch.randn(3, 3000),), dynamic_shapes=shapes), folder / "m.pt2"
    )
    convert.run(ExportRequest(folder / "m.pt2", folder / "package", "onnx", {}))
    package.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("module", "batched"),
    [
        (Divided(), False),
        (TrainedNorm(), False),
        (SoftmaxOfBatch(), False),
        (Cumulative(), False),
        (Sorted(), False),
        (Alone(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_answer_is_as_when_asked_alone(
    module: torch.nn.Module,
    batched: bool,
    world: World,
    listen: Callable[..., Endpoint],
    tmp_path: Path,
) -> None:
    batching = {"max_batch_size": 16, "max_delay_ms": 20}
    deployment_id = world.deploy(archived(module, tmp_path), batching=batching)
    endpoint = listen(world.serving(deployment_id), deployment_id, max_body=10_000_000)
    random = np.random.default_rng(0)
    asked = [
        (random.standard_normal((1 + number % 3, 3000)) * 10.0 ** (number % 5)).astype(np.float32)
        for number in range(REQUESTS)
    ]

    def ask(array: np.ndarray) -> np.ndarray:
        headers = {"content_type": "application/x-npy", "accept": "application/x-npy"}
        answer = endpoint.ask(npy(array), **headers)
        assert answer.status == 200, answer.data
        found: np.ndarray = np.load(io.BytesIO(answer.data))
        return found

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, asked))
    for array, answer in zip(asked, answers, strict=True):
        expected = module(torch.from_numpy(array)).numpy()
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    config = endpoint.request(
        "GET", "/v2/models/endpoint/config", headers={"Authorization": f"Bearer {KEY}"}
    ).json
    assert (config["max_batch_size"], "dynamic_batching" in config) == ((16, True) if batched else (0, False))
