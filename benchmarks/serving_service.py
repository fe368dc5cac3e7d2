"""The service as its users run it: ``model-service up`` over databases that this benchmark can stop.

Its models are registered, exported to ONNX, verified and deployed through its API.
"""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import serving_models as models
from common import free_port, serving
from serving_load import ask
from serving_models import MAKERS, Exported, Question

from exporters import package
from model_service.client import ModelServiceClient
from model_service.embedded import Addresses, servers

API = "/api/v1/deployments"
DEADLINE_S = 120.0


class Refused(Exception):
    """Not a 2xx; the message has the status and the body."""


@dataclass(frozen=True)
class Deployed:
    """One deployment and its key."""

    id: str
    key: str
    inference_url: str

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def v2_url(self) -> str:
        return f"{self.inference_url}/v2/models/{self.id}/infer"

    def questions(self, model: Exported) -> dict[str, Question]:
        """By body."""
        return {
            "JSON": models.v2_json(self.v2_url, model, self.authorization),
            "binary": models.v2_binary(self.v2_url, model, self.authorization),
        }


class Service:
    """A running service; its exports and deployments are made when they are asked for."""

    def __init__(self, addresses: Addresses, url: str, inference_url: str, folder: Path) -> None:
        self.addresses = addresses
        self.url = url
        self.inference_url = inference_url
        self.folder = folder
        self._exported: dict[str, Exported] = {}
        self._deployed: dict[str, Deployed] = {}

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Raises: Refused, OSError."""
        return call(self.url, method, path, body)

    def process(self) -> psutil.Process:
        """The inference server's."""
        report = json.loads((self.data_dir / "up.json").read_text())
        return psutil.Process(report["pids"]["inference"])

    def exported(self, name: str) -> Exported:
        """``mlp`` or ``resnet``, or one of them with other weights: ``mlp-2``."""
        if name not in self._exported:
            kind, _, seed = name.partition("-")
            folder = self.folder / "models" / name
            folder.mkdir(parents=True)
            program = MAKERS[kind](folder / f"{name}.pt2", int(seed or 1))
            with ModelServiceClient(self.url, progress=False) as client:
                model_id = client.register_model({"name": name, "algorithm": "neural-network"})
                client.upload_model(model_id, program)
                job = client.wait_for_export(client.create_export(model_id, "onnx"), timeout_s=DEADLINE_S)
                client.download_export(job.id, folder / "package.zip")
            package.unpack(folder / "package.zip", folder / "package")
            onnx = folder / "package" / "model.onnx"
            self._exported[name] = Exported(name, job.id, onnx, models.example(kind))
        return self._exported[name]

    def deployed(self, name: str, *, model: str | None = None, replicas: int = 1) -> Deployed:
        """One that answers right, of the model ``model`` or the one that it is named for."""
        if name not in self._deployed:
            exported = self.exported(model or name)
            scaling = {"min_replicas": replicas, "max_replicas": replicas}
            config = {"auto_scaling": scaling} if replicas > 1 else {}
            body = {"name": name, "export_job_id": exported.job_id, "config": config}
            made = self.call("POST", API, body)
            found = Deployed(made["id"], made["api_key"], self.inference_url)
            until(lambda: self._answers(found, exported), f"the deployment {name}")
            self._deployed[name] = found
        return self._deployed[name]

    def _answers(self, deployed: Deployed, exported: Exported) -> bool:
        status = self.call("GET", f"{API}/{deployed.id}")
        if status["status"] == "failed":
            raise SystemExit(f"The deployment of {exported.name} failed: {status.get('error_message')}")
        return all(
            exported.is_answered_by(ask(question)) for question in deployed.questions(exported).values()
        )


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Everything on free ports, until the block ends."""
    with servers(folder / "servers") as addresses:
        url, inference_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        found = Service(addresses, url, inference_url, folder)
        argv = [
            *(sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(found.data_dir)),
            *("--port", str(urlsplit(url).port), "--inference-port", str(urlsplit(inference_url).port)),
        ]
        env = os.environ | {
            "MONGODB_URL": addresses.mongodb_url,
            "REDIS_URL": addresses.redis_url,
            "LOG_LEVEL": "WARNING",
        }
        with serving(argv, url, folder / "up.log", env=env, ready=(found.data_dir / "up.json").exists):
            yield found


@contextmanager
def one_more(found: Service, log: Path, **environment: str) -> Iterator[tuple[psutil.Process, str, float]]:
    """A second inference server over the same databases and the same folder: its process, URL and start.

    The start is of ``time.monotonic()``; nothing is waited for. ``environment``: settings of it alone.
    """
    port = free_port()
    env = os.environ | {
        "MONGODB_URL": found.addresses.mongodb_url,
        "REDIS_URL": found.addresses.redis_url,
        "MODEL_SERVICE_HOME": str(found.data_dir),
        "INFERENCE_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        **environment,
    }
    started = time.monotonic()
    with log.open("wb") as output:
        argv = [sys.executable, "-m", "model_service.serving"]
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}", started
    finally:
        process.terminate()
        process.wait()


def call(url: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Of a JSON API. Raises: Refused, OSError."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        answer = connection.getresponse()
        text = answer.read()
    except http.client.HTTPException as exc:
        raise OSError(f"{type(exc).__name__}: {exc}") from exc
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise Refused(f"{method} {path}: {answer.status} {text[:400].decode(errors='replace')}")
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def until(condition: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> float:
    """How long it took, in seconds; what cannot be asked yet counts as false."""
    started = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - started
        except (OSError, ValueError):
            pass
        if time.monotonic() > started + deadline_s:
            raise SystemExit(f"waited {deadline_s:g} s in vain for {what}")
        time.sleep(0.01)
