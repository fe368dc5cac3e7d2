"""Networks that are trained on digits, and the classes over a real MongoDB."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from pymongo import MongoClient

from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.model_deployment_service import (
    ModelDeploymentService,
    ModelExporter,
    ModelExportMetadata,
    ModelValidator,
)
from model_service.services import Services, build_services
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.factories import model_fields

if TYPE_CHECKING:
    import torch

EPOCHS = 30


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """float32[1797, 64] in 0 to 1, and int64[1797]."""
    import torch
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)


def trained(network: torch.nn.Module, loss_of: Callable[[], torch.Tensor]) -> torch.nn.Module:
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
    return network


def new_autoencoder(hidden: int = 16) -> torch.nn.Module:
    from torch import nn

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, hidden))
            self.decoder = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.decoder(self.encoder(x))

    return Autoencoder()


@pytest.fixture(scope="session")
def autoencoder(digits: tuple[torch.Tensor, torch.Tensor]) -> torch.nn.Module:
    import torch

    torch.manual_seed(0)
    network = new_autoencoder()
    return trained(network, lambda: torch.nn.functional.mse_loss(network(digits[0]), digits[0]))


@pytest.fixture(scope="session")
def classifier(digits: tuple[torch.Tensor, torch.Tensor]) -> torch.nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
    return trained(network, lambda: nn.functional.cross_entropy(network(digits[0]), digits[1]))


@pytest.fixture
def db(database: Database, settings: Settings, servers: Addresses) -> Any:
    """The test's database as a program opens it, with none of the service's options."""
    client: MongoClient[dict[str, Any]] = MongoClient(servers.mongodb_url)
    yield client[settings.mongodb_db]
    client.close()


@contextmanager
def own_logging() -> Iterator[None]:
    """Undo what the classes configure in a program that configures no logging."""
    was_configured = structlog.is_configured()
    yield
    if not was_configured:
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("MONGODB_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL_SERVICE_HOME", str(tmp_path / "home"))
    with own_logging():
        yield tmp_path / "home"


@pytest.fixture
def export_dir(tmp_path: Path) -> Path:
    return tmp_path / "exports"


@dataclass(frozen=True)
class Exported:
    """An export in the test's own export folder. ``path`` is its model_export_path."""

    metadata: ModelExportMetadata
    path: str

    @property
    def folder(self) -> Path:
        return Path(self.path).parent.parent


@pytest.fixture(scope="session")
def exports(
    autoencoder: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[ModelExportMetadata]]:
    """A folder with three exports of one architecture: trained, not trained, and trained as a pickle."""
    folder = tmp_path_factory.mktemp("exports")
    info = {"name": "drawings", "training_metrics": {"mse": 0.03}}
    with pytest.MonkeyPatch.context() as patch, own_logging():
        for name in ("MONGODB_URL", "REDIS_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("MODEL_SERVICE_HOME", str(folder / "home"))
        exporter = ModelExporter(folder / "exports")
        made = [(autoencoder, "onnx"), (new_autoencoder(), "onnx"), (autoencoder, "pickle")]
        found = [exporter.export_model_direct(network, info, 3, 4, kind) for network, kind in made]
    return folder / "exports", found


@pytest.fixture
def exported(exports: tuple[Path, list[ModelExportMetadata]], export_dir: Path) -> list[Exported]:
    """Copies of ``exports`` in ``export_dir``."""
    shutil.copytree(exports[0], export_dir)
    listed = {entry["model_id"]: entry for entry in ModelExporter(export_dir).list_exported_models()}
    return [Exported(copy.deepcopy(one), listed[one.model_id]["model_export_path"]) for one in exports[1]]


@pytest.fixture
def exporter(export_dir: Path) -> ModelExporter:
    return ModelExporter(export_dir)


@pytest.fixture
def validator(export_dir: Path) -> ModelValidator:
    return ModelValidator(export_dir)


@pytest.fixture
def deployment(export_dir: Path) -> ModelDeploymentService:
    return ModelDeploymentService(export_dir)


@pytest.fixture
def services(settings: Settings, database: Database) -> Services:
    return build_services(settings, build_stores(database, settings))


def program_of(network: torch.nn.Module) -> bytes:
    import torch

    file = io.BytesIO()
    network = network.eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(network, (torch.zeros(2, 64),), dynamic_shapes=({0: batch},))
    torch.export.save(program, file)
    return file.getvalue()


@pytest.fixture
def training_job(services: Services, autoencoder: torch.nn.Module) -> Callable[..., str]:
    """Returns the UUID of a training job; a completed one has a version of the autoencoder."""
    from model_service.services.files.files import NewFile
    from model_service.states import TrainingStatus

    def make(status: TrainingStatus = TrainingStatus.COMPLETED, content: bytes | None = None) -> str:
        job = services.training_jobs.create(
            {
                "name": "drawings",
                "description": None,
                "algorithm": "autoencoder",
                "framework": "pytorch",
                "task_type": "reconstruction",
                "tags": [],
                "status": status,
                "hyperparameters": {},
                "metrics": {"mse": 0.02},
                "config": {},
                "environment": {},
                "datasets": [],
                "code": None,
                "error": None,
                "started_at": None,
                "finished_at": None,
            }
        )
        fields = model_fields(name="drawings", algorithm="autoencoder", training_job_id=job["_id"])
        model = services.models.register(fields)  # type: ignore[arg-type]
        holder = services.files.writable(str(model["_id"]))
        file = content or program_of(autoencoder)
        services.files.store(holder, [file], NewFile.at("model.pt2", primary=True), sha256=None)
        return job["_id"]

    return make
