"""Store what a build writes, for the tests of later builds.

    python -m tests.earlier_builds.make CHECKOUT NAME

CHECKOUT is a checkout of the build (``git worktree add CHECKOUT COMMIT``), which runs in this environment.
The folder ``tests/earlier_builds/NAME`` gets

    folder.tar.xz   the data folder after an orderly stop, without logs and without MongoDB's journal
    backup.tar.xz   the archive that the build's own ``model-service backup`` wrote, where it has that command
    facts.json      what was stored: identifiers, checksums, keys, a prediction

A build before some resource existed stores what it has: each of them is created if its route is there.
"""

import contextlib
import hashlib
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.conftest import free_ports
from tests.factories import scaling_program

HERE = Path(__file__).parent
DEADLINE_S = 180
# Several chunks of 2 MiB that compress well.
LARGE = b"".join(hashlib.sha256(str(n % 512).encode()).digest() for n in range(5 * 2**20 // 32)) + b"end"
SMALL = b"weights of a small model"
INPUT = [[1.0, 2.0, 3.0]]


class Service:
    """The running build, by HTTP alone: its own client may have other methods."""

    def __init__(self, api: str, inference: str) -> None:
        self.api, self.inference = api, inference

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        base: str | None = None,
    ) -> Any:
        """The answer's JSON. Bytes are sent as they are, anything else as JSON."""
        raw = isinstance(body, bytes)
        data = body if raw or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if raw else "application/json"
        request = urllib.request.Request(
            (base or self.api) + path, data, {"Content-Type": kind, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as exc:
            exc.add_note(exc.read().decode()[:500])
            raise
        return json.loads(content) if content else None

    def has(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except urllib.error.HTTPError as exc:
            if exc.code == 404:
                return False
            raise
        return True


@contextlib.contextmanager
def running(checkout: Path, data_dir: Path) -> Iterator[tuple[Service, dict[str, str]]]:
    port, inference_port = free_ports(2)
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment |= {"PYTHONPATH": str(checkout), "MODEL_SERVICE_HOME": str(data_dir)}
    command = [sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(data_dir)]
    with (data_dir.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--inference-port", str(inference_port)],
            env=environment,
            cwd=checkout,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        report = data_dir / "up.json"
        wait_for(lambda: report.exists() and process.poll() is None, "the build to be up")
        addresses = json.loads(report.read_text())
        yield Service(addresses["api"], addresses["inference"]), environment
    except BaseException:
        print((data_dir.parent / "up.log").read_text()[-5000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.1)
    return value


def fill(service: Service) -> dict[str, Any]:
    """Store some of everything."""
    facts: dict[str, Any] = {"models": {}, "trash": {}, "datasets": {}}

    def model(name: str, content: bytes | None, filename: str, **fields: Any) -> str:
        registered = service.call(
            "POST", "/api/v1/models", {"name": name, "algorithm": "convnet", "framework": "pytorch"} | fields
        )
        model_id: str = registered["model_id"]
        if content is not None:
            form, kind = as_form(filename, content)
            service.call("POST", f"/api/v1/models/{model_id}/upload", form, headers={"Content-Type": kind})
        facts["models"][model_id] = {
            "name": name,
            "version": registered["version"],
            "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
        }
        return model_id

    small = model("digits", SMALL, "small.bin", metrics={"accuracy": 0.91}, tags=["first"])
    model(
        "digits", LARGE, "large.bin", metrics={"accuracy": 0.93, "val": {"loss": 0.2}}, parent_model_id=small
    )
    model("without-file", None, "", description="Registered only")
    scaled = model("scale", scaling_program(), "scale.pt2", hyperparameters={"factor": 2})
    if service.has("/api/v1/datasets"):
        fill_registry(service, facts, model, small)
    service.call("GET", f"/api/v1/models/{small}/info")
    facts["export"] = export(service, scaled)
    facts["failed_export"] = failed_export(service, small)
    facts["deployment"] = deploy(service, facts["export"]["job_id"])
    return facts


def fill_registry(service: Service, facts: dict[str, Any], model: Callable[..., str], small: str) -> None:
    """What came after the first build: datasets, training jobs, aliases, paths, the trash, users, keys."""
    dataset = service.call(
        "POST", "/api/v1/datasets", {"name": "scans", "purpose": "training", "format": "csv"}
    )
    dataset_id = dataset.get("id") or dataset["dataset_id"]
    service.call("PUT", f"/api/v1/datasets/{dataset_id}/files/rows/a.csv", b"1,2,3\n")
    facts["datasets"][dataset_id] = {"rows/a.csv": hashlib.sha256(b"1,2,3\n").hexdigest()}
    job = service.call(
        "POST",
        "/api/v1/training",
        {"name": "run", "datasets": [{"dataset_id": dataset_id, "role": "training"}]},
    )
    facts["training_job"] = job.get("id") or job["job_id"]
    service.call("PATCH", f"/api/v1/training/{facts['training_job']}", {"status": "running"})
    model("team/trained", SMALL + b" of a team", "t.bin", training_job_id=facts["training_job"])
    service.call("PUT", f"/api/v1/models/{small}/aliases/production")
    service.call("PUT", f"/api/v1/models/{small}/files/config/a.json", b"{}")
    deleted = model("gone", b"in the trash", "gone.bin")
    service.call("DELETE", f"/api/v1/models/{deleted}")
    facts["trash"][deleted] = facts["models"].pop(deleted)
    service.call("POST", "/api/v1/users", {"name": "ada", "password": "correct horse battery"})
    facts["api_key"] = service.call("POST", "/api/v1/keys", {"name": "ci", "scopes": ["read"]})["key"]


def ended_job(service: Service, model_id: str, status: str) -> str:
    created = service.call("POST", "/api/v1/export/jobs", {"model_id": model_id, "export_format": "onnx"})
    job_id = created.get("id") or created["job_id"]

    def ended() -> Any:
        job = service.call("GET", f"/api/v1/export/jobs/{job_id}")
        return job if job["status"] in ("completed", "failed") else None

    job = wait_for(ended, "the export")
    if job["status"] != status:
        raise RuntimeError(job)
    return str(job_id)


def failed_export(service: Service, model_id: str) -> str:
    return ended_job(service, model_id, "failed")


def export(service: Service, model_id: str) -> dict[str, Any]:
    job_id = ended_job(service, model_id, "completed")
    with urllib.request.urlopen(f"{service.api}/api/v1/export/jobs/{job_id}/download", timeout=60) as package:
        digest = hashlib.sha256(package.read()).hexdigest()
    return {"job_id": job_id, "model_id": model_id, "sha256": digest}


def deploy(service: Service, job_id: str) -> dict[str, Any]:
    created = service.call(
        "POST",
        "/api/v1/deployments",
        {"export_job_id": job_id, "deployment_type": "platform_endpoint", "name": "scale"},
    )
    deployment_id = created.get("id") or created["deployment_id"]
    wait_for(
        lambda: service.call("GET", f"/api/v1/deployments/{deployment_id}")["status"] == "active",
        "the deployment",
    )
    key = created["api_key"]
    answer = service.call(
        "POST",
        f"/v1/infer/{deployment_id}",
        {"inputs": INPUT},
        headers={"Authorization": f"Bearer {key}"},
        base=service.inference,
    )
    return {"deployment_id": deployment_id, "api_key": key, "inputs": INPUT, "answer": answer}


def as_form(filename: str, content: bytes) -> tuple[bytes, str]:
    boundary = hashlib.sha256(content).hexdigest()
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return (
        head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def pack(data_dir: Path, target: Path) -> None:
    """The data folder without what a start makes anew."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(member.name).parts
        beside = {"journal", "diagnostic.data", "work", "cache", "serving", "up.json", "mongod.lock"}
        return None if beside & set(parts) or member.name.endswith((".log", ".lock")) else member

    with tarfile.open(target, "w:xz", preset=9) as tar:
        tar.add(data_dir, arcname="data", filter=kept)


def main() -> None:
    checkout, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    target = HERE / name
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="earlier-build-") as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        with running(checkout, data_dir) as (service, environment):
            facts = fill(service)
            backup = [sys.executable, "-m", "model_service.cli", "backup", "-"]
            done = subprocess.run(backup, env=environment, cwd=checkout, stdout=subprocess.PIPE, check=False)
            if done.returncode == 0:
                (target / "backup.tar.xz").write_bytes(lzma.compress(done.stdout, preset=9))
        pack(data_dir, target / "folder.tar.xz")
    (target / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
    for file in sorted(target.iterdir()):
        print(f"{file.name:16} {file.stat().st_size:>10,} bytes")


if __name__ == "__main__":
    main()
