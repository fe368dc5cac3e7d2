"""The whole service under mixed load while random processes of it are killed: what was acknowledged stays."""

import hashlib
import io
import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import urllib3

from tests.embedded.test_up import command, environment, state
from tests.factories import new_model, scaling_program
from tests.waiting import wait_for

_KILLS = 200
_SECONDS = 600
_STUCK_S = 60  # after the load, the longest time in which no job ends
_PATIENCE_S = 30.0
_FINAL = ("completed", "failed", "cancelled")
_GUARD = "model_service.guard"


@dataclass
class Acknowledged:
    """What the service has confirmed, by id; only the thread that made an entry changes it."""

    models: dict[str, str] = field(default_factory=dict)  # the name
    files: dict[str, str] = field(default_factory=dict)  # sha256 of the model's file
    deleted: set[str] = field(default_factory=set)
    perhaps_deleted: set[str] = field(default_factory=set)  # asked for
    jobs: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)


class Service:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._http = urllib3.PoolManager(maxsize=32, retries=False, timeout=_PATIENCE_S)

    def send(self, method: str, path: str, body: Any = None, content: bytes | None = None) -> Any:
        """The answer's JSON; None: refused, or no answer."""
        headers = {"Content-Type": "application/octet-stream"} if content is not None else {}
        try:
            answer = self._http.request(
                method,
                state(self.data_dir)["api"] + "/api/v1" + path,
                json=body,
                body=content,
                headers=headers,
            )
            return answer.json() if answer.status < 400 and answer.data else (answer.status < 400 or None)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return None

    def get(self, path: str) -> bytes | None:
        """The body; None: 404.

        Anything else is asked again, for a while.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = self._http.request("GET", state(self.data_dir)["api"] + "/api/v1" + path)
                if answer.status in (200, 404):
                    return answer.data if answer.status == 200 else None
                failure = f"{answer.status} {answer.data[:200]!r}"
            except (urllib3.exceptions.HTTPError, OSError) as exc:
                failure = str(exc)
            assert time.monotonic() < deadline, f"GET {path}: {failure}"
            time.sleep(0.2)

    def document(self, path: str) -> dict[str, Any] | None:
        found = self.get(path)
        return None if found is None else dict(orjson.loads(found))

    def infer(self, url: str, key: str, rows: list[list[float]]) -> str:
        try:
            headers = {"Authorization": f"Bearer {key}"}
            answer = self._http.request("POST", url, json={"inputs": rows}, headers=headers)
            if answer.status != 200:
                return f"inference {answer.status}"
            (found,) = answer.json()["outputs"].values()
            return "inference right" if found == [[2 * x for x in row] for row in rows] else "inference wrong"
        except (urllib3.exceptions.HTTPError, OSError):
            return "inference cut off"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "temporary").mkdir()
    log = (tmp_path / "up.log").open("wb")
    env = environment(TMPDIR=str(tmp_path / "temporary"), API_WORKERS="2")
    with log, subprocess.Popen(command(tmp_path / "data"), env=env, stdout=log, stderr=log) as process:
        try:
            wait_for((tmp_path / "data" / "up.json").exists, "everything ready", deadline_s=120)
            yield Service(tmp_path / "data")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert not (tmp_path / "data" / "run").exists()
            assert not list((tmp_path / "temporary").iterdir())
        finally:
            process.kill()


def _estimator(slope: float) -> bytes:
    """A file like no other."""
    import joblib
    from sklearn.linear_model import Ridge

    file = io.BytesIO()
    joblib.dump(Ridge().fit([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0]], [0.0, slope, 2 * slope]), file)
    return file.getvalue()


def _write(service: Service, known: Acknowledged, number: int, stop: threading.Event) -> None:
    """Register models, upload their files, export and delete some."""
    dice = random.Random(number)
    for n in itertools.count():
        if stop.is_set():
            return
        name = f"model-{number}-{n}"
        made = service.send("POST", "/models", new_model(name=name, version=f"v1.{n}"))
        known.answers["model acknowledged" if made else "model not acknowledged"] += 1
        if not made:
            time.sleep(0.2)
            continue
        model_id = made["model_id"]
        known.models[model_id] = name
        content = _estimator(dice.uniform(1, 9))
        if service.send("POST", f"/models/{model_id}/upload", content=content):
            known.files[model_id] = hashlib.sha256(content).hexdigest()
            known.answers["file acknowledged"] += 1
            if n % 30 == 0:
                job = service.send("POST", "/export/jobs", {"model_id": model_id, "export_format": "onnx"})
                if job:
                    known.jobs.add(job["id"])
                    known.answers["job acknowledged"] += 1
        if n % 5 == 4:
            known.perhaps_deleted.add(model_id)
            if service.send("DELETE", f"/models/{model_id}"):
                known.deleted.add(model_id)
                known.answers["deletion acknowledged"] += 1


def _read(service: Service, known: Acknowledged, stop: threading.Event) -> None:
    while not stop.is_set():
        known.answers["list read" if service.send("GET", "/models?limit=50") else "list not read"] += 1
        time.sleep(0.05)


def _ask(service: Service, known: Acknowledged, url: str, key: str, stop: threading.Event) -> None:
    while not stop.is_set():
        known.answers[service.infer(url, key, [[1.0, 2.0, 3.0], [0.5, 4.0, 8.0]])] += 1
        time.sleep(0.02)


def _victims(data_dir: Path) -> list[psutil.Process]:
    """Every process of the service but the guard, whose end is the end of the service."""
    found = {}
    for pid in state(data_dir)["pids"].values():
        try:
            leader = psutil.Process(pid)
            found |= {each.pid: each for each in [leader, *leader.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def _kill_at_random(data_dir: Path, seed: int, kills: int, seconds: float) -> Counter[str]:
    dice = random.Random(seed)
    killed: Counter[str] = Counter()
    names = {}
    for _ in range(kills):
        time.sleep(dice.uniform(0.5, 1.5) * seconds / kills)
        victims = _victims(data_dir)
        names |= {pid: name for name, pid in state(data_dir)["pids"].items()}
        if not victims:
            continue
        victim = dice.choice(sorted(victims, key=lambda each: each.pid))
        try:
            os.kill(victim.pid, signal.SIGKILL)
            killed[names.get(victim.pid, "a child")] += 1
        except ProcessLookupError:
            continue
    return killed


def _deployed(service: Service) -> tuple[str, str]:
    """An endpoint's URL and its key."""
    model = service.send("POST", "/models", new_model(name="served"))["model_id"]
    assert service.send("POST", f"/models/{model}/upload", content=scaling_program(2.0))
    job = service.send("POST", "/export/jobs", {"model_id": model, "export_format": "onnx"})["id"]
    wait_for(lambda: _status(service, job) == "completed", "the first export", deadline_s=120)
    asked = {"export_job_id": job, "deployment_type": "platform_endpoint", "name": "served"}
    made = service.send("POST", "/deployments", asked)
    path = f"/deployments/{made['id']}"
    wait_for(lambda: (service.document(path) or {})["status"] == "active", "the deployment", deadline_s=60)
    return (service.document(path) or {})["endpoint_url"], made["api_key"]


def _status(service: Service, job: str) -> str:
    found = service.document(f"/export/jobs/{job}")
    assert found is not None, f"the acknowledged job {job} is lost"
    return str(found["status"])


@pytest.mark.large
@pytest.mark.timeout(3 * _SECONDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost(service: Service, seed: int) -> None:
    url, key = _deployed(service)
    known, stop = Acknowledged(), threading.Event()
    seconds = float(os.environ.get("ENDURANCE_SECONDS", _SECONDS))
    clients: list[Callable[[], None]] = [
        *(lambda n=n: _write(service, known, n, stop) for n in range(4)),  # type: ignore[misc]
        *(lambda: _read(service, known, stop) for _ in range(2)),
        *(lambda: _ask(service, known, url, key, stop) for _ in range(2)),
    ]
    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(client) for client in clients]
        try:
            killed = _kill_at_random(service.data_dir, seed, int(_KILLS * seconds / _SECONDS), seconds)
        finally:
            stop.set()
        for client in running:
            client.result(timeout=2 * _PATIENCE_S)
    print(f"killed {dict(killed)}; {dict(sorted(known.answers.items()))}")
    assert killed.total() >= 0.9 * _KILLS * seconds / _SECONDS
    assert known.answers["inference right"]
    assert not known.answers["inference wrong"]
    _check_models(service, known)
    _check_jobs(service, known)


def _check_models(service: Service, known: Acknowledged) -> None:
    for model_id, name in known.models.items():
        found = service.document(f"/models/{model_id}")
        assert found is None or model_id not in known.deleted, f"the deleted model {name} is there again"
        if found is None:
            assert model_id in known.perhaps_deleted, f"the model {name} is lost"
            continue
        assert found["name"] == name
        if model_id in known.files:
            content = service.get(f"/models/{model_id}/download")
            assert content is not None, f"the file of {name} is lost"
            assert hashlib.sha256(content).hexdigest() == known.files[model_id]


def _check_jobs(service: Service, known: Acknowledged) -> None:
    left, deadline = set(known.jobs), 0.0
    while left:
        unfinished = {job for job in left if _status(service, job) not in _FINAL}
        if unfinished != left or not deadline:
            deadline = time.monotonic() + _STUCK_S
        assert time.monotonic() < deadline, f"stuck: {[(job, _status(service, job)) for job in unfinished]}"
        left = unfinished
        time.sleep(0.5)
    failed = [
        service.document(f"/export/jobs/{job}") for job in known.jobs if _status(service, job) == "failed"
    ]
    assert not [job for job in failed if job and job["error_code"] == "internal_error"], failed
