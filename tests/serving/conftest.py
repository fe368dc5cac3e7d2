"""An inference server's host in this process, serving a package that was made once for all tests."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from exporters import convert
from exporters import package as packages
from exporters.request import ExportRequest
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
DEADLINE_S = 60
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str) -> T:
    """The first true value of the condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return value


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


@pytest.fixture
def rewrite(package_zip: bytes, tmp_path: Path) -> Callable[[str, bytes], bytes]:
    """Another whole package: the one of all tests with one file's content changed, and a manifest of that."""

    def rewritten(name: str, content: bytes) -> bytes:
        folder = tmp_path / f"rewritten-{uuid.uuid4()}"
        archive = folder.with_suffix(".zip")
        archive.write_bytes(package_zip)
        packages.unpack(archive, folder)
        (folder / name).write_bytes(content)
        packages.write_manifest(folder)
        packages.pack(folder, archive)
        return archive.read_bytes()

    return rewritten


@dataclass
class World:
    """A database with deployments in it, and the parts of one inference server."""

    database: Database
    blobs: Blobs
    deployments: Deployments
    store: PackageStore
    usage: Usage
    started: list[Host] = field(default_factory=list)

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

    def host(self, server: str = "the-server") -> Host:
        """A running host. A second one of the same name is that server after a restart."""
        host = Host(self.deployments, self.store, self.usage, server=server)
        host.start()
        self.started.append(host)
        return host

    def serving(self, deployment_id: str) -> Host:
        """A running host that has made the deployment active."""
        host = self.host()
        wait_for(lambda: self.status(deployment_id) == "active", "the deployment to be active")
        return host

    def status(self, deployment_id: str) -> str:
        return str(self.document(deployment_id)["status"])

    def document(self, deployment_id: str) -> dict[str, Any]:
        found = self.deployments.get(deployment_id)
        assert found is not None
        return found

    def folder(self, deployment_id: str) -> Path:
        """Where the store keeps the deployment's package."""
        checksum: str = self.document(deployment_id)["package"]["checksum"]
        return self.store.folder / checksum.removeprefix("sha256:")

    def hang(self, deployment_id: str) -> Callable[[], None]:
        """Have its load wait for ever: the manifest of the cached copy is a pipe that nobody writes to.

        Returns what ends the pipe; the copy is found damaged then.
        """
        folder = self.folder(deployment_id)
        folder.mkdir()
        manifest = folder / packages.MANIFEST
        os.mkfifo(manifest)

        def release() -> None:
            wait_for(lambda: _end(manifest), "the load to read the pipe")

        return release


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    database = Database(settings)
    database.ensure_indexes()
    blobs = Blobs(database)
    store = PackageStore(blobs, tmp_path / "serving")
    world = World(database, blobs, Deployments(database), store, Usage())
    yield world
    for host in world.started:
        host.stop()
    database.close()


def _end(pipe: Path) -> bool:
    """False while nobody reads it."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.fixture
def served(world: World, package_zip: bytes) -> tuple[Callable[..., Any], str]:
    """The WSGI application, and the id of an active deployment."""
    deployment_id = world.deploy(package_zip)
    return InferenceApp(world.serving(deployment_id), world.usage, max_body=100_000), deployment_id
