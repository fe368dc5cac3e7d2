"""An inference server in this process, serving a package that was made once for all tests."""

import asyncio
import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from granian.server.embed import Server

from exporters import convert
from exporters import package as packages
from exporters.request import ExportRequest
from model_service.config import Settings
from model_service.server import embedded
from model_service.serving.accounting.keys import KeyUses
from model_service.serving.accounting.quotas import Quotas
from model_service.serving.accounting.usage import Usage
from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.host import Host
from model_service.serving.hosting.store import PackageStore
from model_service.serving.http.app import InferenceApp
from model_service.serving.http.inference_handler import InferenceHandler
from model_service.serving.http.rsgi import BodyLimits
from model_service.serving.model_hosts.groups import ModelHosts
from model_service.storage.access.rate_windows import RateWindows
from model_service.storage.blobs.blobs import Blob
from model_service.storage.common.db import Database, Session, now
from model_service.storage.deployments.documents import DEFAULT_CONFIG, new_revision
from model_service.storage.stores import Stores, build_stores
from model_service.tiers import Tiers
from model_service.wrong_keys import WrongKeys
from tests.factories import Document, scaling_program
from tests.waiting import wait_for

KEY = "pk_of-the-test"


def made_package(folder: Path) -> bytes:
    """x float32[batch, 3] → output, twice x; classes a, b, c."""
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


def rewritten(package: bytes, name: str, content: bytes, scratch: Path) -> bytes:
    """The package with one file's content changed, and a manifest of that."""
    folder = scratch / f"rewritten-{uuid.uuid4()}"
    archive = folder.with_suffix(".zip")
    archive.write_bytes(package)
    packages.unpack(archive, folder)
    (folder / name).write_bytes(content)
    packages.write_manifest(folder)
    packages.pack(folder, archive)
    return archive.read_bytes()


@pytest.fixture(scope="session")
def package_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_package(tmp_path_factory.mktemp("export"))


@pytest.fixture
def rewrite(package_zip: bytes, tmp_path: Path) -> Callable[[str, bytes], bytes]:
    """The package of all tests, rewritten."""
    return lambda name, content: rewritten(package_zip, name, content, tmp_path)


@dataclass
class Stored:
    """A database with deployments in it."""

    database: Database
    stores: Stores

    def member(self, archive: bytes, **fields: Any) -> Document:
        """A member of a deployment, of a package that is stored now."""
        written = self.stores.blobs.write(iter([archive]), limit_bytes=1 << 30)
        stored: list[Document] = []

        def refer(blob: Blob, session: Session) -> None:
            stored.append(blob.reference())

        self.stores.blobs.publish(written, refer)
        member = {
            "name": "v1.0",
            "export_job_id": str(uuid.uuid4()),
            "model_name": "scaling",
            "model_version": "v1.0",
            "format": "onnx",
            "package": stored[0],
            "weight": 100,
            "inputs": None,
        }
        return member | fields

    def deploy(self, archive: bytes, **config: Any) -> str:
        """A pending deployment of a package, with KEY as its key."""
        return self.deploy_routing({"members": [self.member(archive)]}, **config)

    def deploy_routing(self, given: Document, *, name: str = "endpoint", **changes: Any) -> str:
        empty: Document = {"mode": "split", "sticky_header": None, "shadow": None, "rollback": None}
        routing, config = empty | given, DEFAULT_CONFIG | changes
        at, first = now(), routing["members"][0]
        deployment: Document = {
            "_id": str(uuid.uuid4()),
            "user_id": "somebody",
            "name": name,
            "namespace": "",
            "status": "pending",
            "deployment_type": "platform_endpoint",
            "export_job_id": first["export_job_id"],
            "model_name": first["model_name"],
            "model_version": first["model_version"],
            "routing": routing,
            "config": config,
            "revision": 1,
            "revisions": [new_revision(1, routing, config, "somebody", at)],
            "live_revision": None,
            "error_message": None,
            "request_count": 0,
            "error_count": 0,
            "total_inference_time_ms": 0.0,
            "created_at": at,
            "updated_at": at,
        }
        key = {
            "_id": str(uuid.uuid4()),
            "deployment_id": deployment["_id"],
            "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "expires_at": None,
        }
        self.database.transaction(lambda session: self.stores.deployments.insert(deployment, key, session))
        return str(deployment["_id"])

    def revise(self, deployment_id: str, routing: Document, **config: Any) -> None:
        """Another revision of a deployment."""
        before = self.document(deployment_id)
        routing = before["routing"] | routing
        config = before["config"] | config
        revision = before["revision"] + 1
        newest = new_revision(revision, routing, config, "somebody", now())
        self.database.deployments.update_one(
            {"_id": deployment_id},
            {
                "$set": {"routing": routing, "config": config, "revision": revision},
                "$push": {"revisions": newest},
            },
        )

    def status(self, deployment_id: str) -> str:
        return str(self.document(deployment_id)["status"])

    def document(self, deployment_id: str) -> dict[str, Any]:
        found = self.stores.deployments.get(deployment_id)
        assert found is not None
        return found


@dataclass
class World(Stored):
    """A database with deployments in it, and the parts of one inference server."""

    store: PackageStore
    usage: Usage
    quotas: Quotas
    engine: Engine
    settings: Settings
    model_hosts: ModelHosts
    started: list[Host] = field(default_factory=list)

    def host(self, server: str = "the-server") -> Host:
        """A running host. A second one of the same name is that server after a restart."""
        host = Host(
            self.stores.served_deployments,
            self.stores.serving_reports,
            self.store,
            self.engine,
            self.model_hosts,
            server=server,
        )
        host.start()
        self.started.append(host)
        return host

    def serving(self, deployment_id: str) -> Host:
        """A running host that has made the deployment active."""
        host = self.host()
        wait_for(lambda: self.status(deployment_id) == "active", "the deployment to be active")
        return host

    def folder(self, deployment_id: str) -> Path:
        """Where the store keeps the deployment's package."""
        checksum: str = self.document(deployment_id)["routing"]["members"][0]["package"]["checksum"]
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
            wait_for(lambda: ended(manifest), "the load to read the pipe")

        return release


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    database = Database(settings)
    database.ensure_indexes()
    stores = build_stores(database)
    store = PackageStore(stores.blobs, tmp_path / "serving")
    rates = RateWindows(settings, stores.secrets)
    quotas = Quotas(rates, stores.usage)
    world = World(
        database,
        stores,
        store,
        Usage(),
        quotas,
        Engine(1, lanes=2),
        settings,
        ModelHosts(settings),
    )
    yield world
    for host in world.started:
        host.stop()
    world.engine.stop()
    world.model_hosts.close()
    rates.close()
    database.close()


def ended(pipe: Path) -> bool:
    """False while nobody reads it."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Endpoint:
    """A server that listens, and the deployment that a request goes to if it says nothing else."""

    url: str
    deployment_id: str
    host: Host
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    def ask(self, content: Any, *, key: str = KEY, path: str = "", **headers: str) -> Reply:
        """POST: bytes as they are, anything else as JSON. ``content_type`` is a header's name too."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        return self.request("POST", path or f"/v1/infer/{self.deployment_id}", body=body, headers=sent)

    def request(self, method: str, path: str, **options: Any) -> Reply:
        answer = self.pool.request(method, self.url + path, timeout=60, **options)
        return Reply(answer.status, answer.headers, answer.data)


@pytest.fixture
def listen(world: World) -> Iterator[Callable[..., Endpoint]]:
    """Makes an endpoint of a host: granian on a port of its own, in a thread."""
    running: list[tuple[asyncio.AbstractEventLoop, Server, threading.Thread]] = []

    def listening(
        host: Host,
        deployment_id: str = "",
        max_body: int = 100_000,
        wrong_keys: WrongKeys | None = None,
        body_grace_s: float = 30,
    ) -> Endpoint:
        handler = InferenceHandler(
            world.usage,
            KeyUses(),
            world.quotas,
            Tiers.read(world.settings),
            bodies=BodyLimits(max_body, body_grace_s, 1000),
            wrong_keys=wrong_keys,
        )
        app = InferenceApp(host, handler, world.quotas)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        started = threading.Event()

        async def main() -> None:
            server = embedded(app, listener)
            running.append((asyncio.get_running_loop(), server, threading.current_thread()))
            asyncio.get_running_loop().call_later(0.01, started.set)
            await server.serve()

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        assert started.wait(30)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", deployment_id, host)
        wait_for(lambda: _answers(endpoint), "the server to listen")
        return endpoint

    yield listening
    for loop, server, thread in running:
        loop.call_soon_threadsafe(server.stop)
        thread.join(30)


def _answers(endpoint: Endpoint) -> bool:
    try:
        return endpoint.request("GET", "/health").status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture
def served(world: World, package_zip: bytes, listen: Callable[..., Endpoint]) -> Endpoint:
    """The endpoint of an active deployment."""
    deployment_id = world.deploy(package_zip)
    return listen(world.serving(deployment_id), deployment_id)
