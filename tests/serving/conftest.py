"""An inference server's host in this process, serving a package that was made once for all tests."""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporters import convert
from exporters import package as packages
from exporters.base import ExportRequest
from model_service.config import Settings
from model_service.serving.app import InferenceApp
from model_service.serving.host import Host
from model_service.serving.store import PackageStore
from model_service.serving.usage import Usage
from model_service.storage.blobs import Blob, Blobs
from model_service.storage.db import Database, Session, now
from model_service.storage.deployments import Deployments
from tests.factories import scaling_program

KEY = "pk_of-the-test"


@pytest.fixture(scope="session")
def package_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """x float32[batch, 3] → output, twice x; classes a, b, c."""
    folder = tmp_path_factory.mktemp("export")
    source = folder / "model.pt2"
    source.write_bytes(scaling_program(2.0))
    request = ExportRequest(
        source,
        folder / "package",
        "onnx",
        classes=["a", "b", "c"],
        postprocessing={"softmax": True, "top_k": 2},
    )
    convert.run(request)
    packages.pack(folder / "package", folder / "package.zip")
    return (folder / "package.zip").read_bytes()


@dataclass
class World:
    """A database with deployments in it, and the parts of one inference server."""

    database: Database
    blobs: Blobs
    deployments: Deployments
    store: PackageStore
    usage: Usage

    def deploy(self, archive: bytes) -> str:
        """A pending deployment of a package, with KEY as its key."""
        written = self.blobs.write(iter([archive]), limit_bytes=1 << 30)
        deployment: dict[str, Any] = {
            "_id": str(uuid.uuid4()),
            "status": "pending",
            "deployment_type": "platform_endpoint",
            "model_version": "v1.0",
            "request_count": 0,
            "total_inference_time_ms": 0.0,
            "created_at": now(),
        }
        key = {"deployment_id": deployment["_id"], "sha256": hashlib.sha256(KEY.encode()).hexdigest()}

        def refer(stored: Blob, session: Session) -> None:
            deployment["package"] = stored.reference()
            self.deployments.insert(deployment, key, session)

        self.blobs.publish(written, refer)
        return str(deployment["_id"])

    def host(self) -> Host:
        return Host(self.deployments, self.store, self.usage)


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    database = Database(settings)
    database.ensure_indexes()
    blobs = Blobs(database)
    store = PackageStore(blobs, tmp_path / "serving")
    yield World(database, blobs, Deployments(database), store, Usage())
    database.close()


@pytest.fixture
def served(world: World, package_zip: bytes) -> tuple[Callable[..., Any], str]:
    """The WSGI application, and the id of an active deployment."""
    deployment_id = world.deploy(package_zip)
    host = world.host()
    host.sync()
    return InferenceApp(host, world.usage, max_body=100_000), deployment_id
