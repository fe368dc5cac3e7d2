"""A convolutional network trained on scikit-learn's digits in seconds: accuracy is judged on real data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from exporters.request import ExportRequest


@dataclass(frozen=True)
class Trained:
    """``path``: the .pt2. ``calibration`` and ``test``: .npz files with ``x`` and ``y``."""

    path: Path
    calibration: Path
    test: Path

    def request(
        self, output_dir: Path, format_name: str = "onnx", *, data: Path | None = None, **fields: Any
    ) -> ExportRequest:
        """An export with the optimisation, calibrated and trained on the data if a section needs it."""
        optimization = {name: fields.pop(name) for name in ("quantization", "pruning") if name in fields}
        if any("epochs" in section for section in optimization.values()):
            optimization["training"] = {"path": str(self.calibration), "format": "npz"}
        if data is not None or optimization.get("quantization", {}).get("method") == "static":
            optimization["calibration"] = {"path": str(data or self.calibration), "format": "npz"}
        return ExportRequest(self.path, output_dir, format_name, optimization=optimization, **fields)

    def arrays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        with np.load(self.test) as archive:
            return archive["x"], archive["y"]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Nets this small are slower with more threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    parts = train_test_split(x, labels.astype(np.int64), test_size=0.4, random_state=0, stratify=labels)
    train, test, train_y, test_y = map(torch.from_numpy, parts)
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(train[rows]), train_y[rows]).backward()
            optimizer.step()
    net.eval()
    dynamic = ({0: torch.export.Dim("batch", max=1024)},)
    torch.export.save(torch.export.export(net, (train[:2],), dynamic_shapes=dynamic), folder / "digits.pt2")
    np.savez(folder / "train.npz", x=train.numpy(), y=train_y.numpy())
    np.savez(folder / "test.npz", x=test.numpy(), y=test_y.numpy())
    with torch.no_grad():
        assert (net(test).argmax(1) == test_y).float().mean() > 0.95
    return Trained(folder / "digits.pt2", folder / "train.npz", folder / "test.npz")
