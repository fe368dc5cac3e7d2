"""``kill -9`` in the middle of changes: the statistics are what a recount gives."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from model_service.config import Settings
from model_service.embedded import family
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.factories import new_model
from tests.waiting import wait_for

CLIENTS = 8
DEADLINE_S = 60
STATUSES = ("deprecated", "active")


class Service:
    """``python -m model_service.api`` in a process group of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        assert settings.mongodb_url is not None
        assert settings.redis_url is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self._http = urllib3.PoolManager(maxsize=CLIENTS, retries=False, timeout=30)
        env = os.environ | {
            "MONGODB_URL": settings.mongodb_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "MONGODB_DB": settings.mongodb_db,
            "MODEL_SERVICE_HOME": str(folder),
            "API_WORKERS": "2",
            "PORT": str(port),
        }
        with (folder / "api.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model_service.api"], env=env, stderr=log, start_new_session=True
            )
        wait_for(self._answers, "the API")

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/statistics") is not None
        except urllib3.exceptions.HTTPError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, self.url + path, json=body)
        return answer.json() if answer.status < 400 else None

    def kill(self) -> None:
        """All of its processes, at once."""
        leader = psutil.Process(self._process.pid)
        pids = [process.pid for process in [leader, *leader.children(recursive=True)]]
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        wait_for(lambda: not [pid for pid in pids if family.is_alive(pid)], "its processes to be gone")


def live(service: Service, number: int, acknowledged: Counter[str], stop: threading.Event) -> None:
    """Create, change and delete until the service is gone."""
    try:
        while not stop.is_set():
            model = new_model(name=f"client-{number}", algorithm=f"a{number % 3}")
            made = service.call("POST", "/models", model)
            assert made is not None
            acknowledged["created"] += 1
            match acknowledged["created"] % 3:
                case 0:
                    service.call("DELETE", f"/models/{made['model_id']}")
                case 1:
                    service.call("PATCH", f"/models/{made['model_id']}", {"status": "deprecated"})
    except urllib3.exceptions.HTTPError:
        pass


@pytest.fixture
def quick_end(database: Database) -> Iterator[None]:
    """MongoDB ends what a killed process left open within seconds, so that the database can be dropped."""
    admin = database.client.admin
    limit = {"setParameter": 1, "transactionLifetimeLimitSeconds": 4}
    was = admin.command(limit)["was"]
    yield
    wait_for(
        lambda: admin.command("serverStatus")["transactions"]["currentOpen"] == 0, "the transactions' end"
    )
    admin.command(limit | {"transactionLifetimeLimitSeconds": was})


@pytest.mark.usefixtures("quick_end")
def test_statistics_after_kill_minus_9(settings: Settings, database: Database, tmp_path: Path) -> None:
    acknowledged: Counter[str] = Counter()
    for _ in range(2):  # and once more over what the first one left behind
        service = Service(settings, tmp_path)
        goal = acknowledged["created"] + 60
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(live, service, n, acknowledged, stop) for n in range(CLIENTS)]
            try:
                wait_for(lambda goal=goal: acknowledged["created"] >= goal, "models")  # type: ignore[misc]
                service.kill()
            finally:
                stop.set()
            for client in clients:
                client.result(timeout=DEADLINE_S)
        recounted = Counter((model["algorithm"], model["status"]) for model in database.models.find())
        groups = build_stores(database).counters.groups()
        counted = {(group.algorithm, group.status): group.models for group in groups}
        assert counted == dict(recounted)
    assert build_stores(database).counters.rebuild() == 0
