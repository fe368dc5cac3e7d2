import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from exporters.convert import run
from exporters.request import ExportRequest, ExportResult

from .models import SAMPLES, Sample, options_of


class Export(Protocol):
    def __call__(self, sample: Sample, format_name: str = "onnx", **options: object) -> ExportResult: ...


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a sample by its id, made once."""
    folder = tmp_path_factory.mktemp("checkpoints")
    by_id = {sample.id: sample for sample in SAMPLES}

    def get(name: str) -> Path:
        path = folder / f"{name}{by_id[name].suffix}"
        return path if path.exists() else by_id[name].save(path)

    return get


@pytest.fixture(scope="session")
def exported(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The finished export of a sample to a format, made once: do not write into its package."""
    done: dict[str, ExportResult] = {}
    folder = tmp_path_factory.mktemp("packages")

    def get(sample: Sample, format_name: str = "onnx", **options: object) -> ExportResult:
        key = json.dumps([sample.id, format_name, options])
        if key not in done:
            every = {**options_of(sample, format_name), **options}
            done[key] = run(ExportRequest(checkpoint(sample.id), folder / str(len(done)), format_name, every))
        return done[key]

    return get


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """A trained network, 450 digits that it has not seen, and its accuracy on them."""
    folder = tmp_path_factory.mktemp("digits")
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    seen, unseen, known, asked = train_test_split(images, labels, test_size=450, random_state=0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(seen)), torch.from_numpy(known)).backward()
        optimiser.step()
    network.eval()
    model, data = folder / "model.pt2", folder / "digits.npz"
    program = torch.export.export(
        network, (torch.zeros(2, 64),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, model)
    np.savez(data, x=unseen, y=asked)
    with torch.no_grad():
        predicted = network(torch.from_numpy(unseen)).argmax(1).numpy()
    return model, data, float((predicted == asked).mean())


@pytest.fixture
def exporters_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m exporters`` as a real child process, in a folder of its own."""

    def call(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "exporters", *map(str, arguments)],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )

    return call


def events(stdout: str) -> list[dict[str, Any]]:
    """Every line of a ``run`` has to be an event."""
    return [json.loads(line) for line in stdout.splitlines()]
