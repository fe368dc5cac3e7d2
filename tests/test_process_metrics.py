"""``/metrics`` of servers with several processes: what each of them counted, the killed ones included."""

import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import urllib3

from model_service.config import Settings
from model_service.metrics_folder import count_in
from model_service.services import build_services
from model_service.storage.common.db import Database
from model_service.storage.operations.workers import ALIVE_S, Workers
from model_service.storage.stores import build_stores
from tests.e2e.conftest import free_ports
from tests.exposition import samples
from tests.factories import new_model
from tests.jobs.test_scan import uploaded
from tests.processes import running
from tests.waiting import wait_for

_START_S = 60


class Scraped:
    """A server's ``/metrics``; every request has a connection of its own, so any process may answer."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def request(self, method: str, path: str, body: object = None) -> int:
        with urllib3.PoolManager(retries=False, timeout=30) as http:
            return http.request(method, self._url + path, json=body).status

    def answers(self, path: str = "/metrics") -> bool:
        try:
            return self.request("GET", path) == 200
        except urllib3.exceptions.HTTPError:
            return False

    def value(self, series: str) -> float:
        return samples(self._text()).get(series, 0)

    def counters(self) -> dict[str, float]:
        """All series of counters and histograms, which only increase."""
        endings = ("_total", "_bucket", "_count", "_sum")
        found = samples(self._text()).items()
        gauges = ("model_service_models_total", "active_models_total")
        return {
            series: value
            for series, value in found
            if series.partition("{")[0].endswith(endings) and series not in gauges
        }

    def _text(self) -> str:
        with urllib3.PoolManager(retries=False, timeout=30) as http:
            return http.request("GET", self._url + "/metrics").data.decode()


def test_api_processes_count_together(settings: Settings, database: Database, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    server = Scraped(port)
    created = 'model_service_api_requests_total{endpoint="/api/v1/models",method="POST",status="201"}'
    timed = 'model_service_request_duration_seconds_count{endpoint="/api/v1/models",method="POST"}'

    def create(count: int, name: str) -> None:
        for number in range(count):
            assert server.request("POST", "/api/v1/models", new_model(name=f"{name}-{number}")) == 201

    with running("model_service.api", settings, tmp_path / "log", port=port, api_workers=2) as process:
        wait_for(server.answers, "the API", deadline_s=_START_S)
        create(20, "both")
        assert {server.value(created) for _ in range(10)} == {20.0}
        assert {server.value(timed) for _ in range(10)} == {20.0}
        victim = psutil.Process(process.pid).children()[-1]
        victim.kill()
        wait_for(lambda: not victim.is_running(), "the killed process to be replaced")
        wait_for(server.answers, "the other process")
        create(5, "after")
        assert {server.value(created) for _ in range(10)} == {25.0}
        assert server.value('model_registrations_total{algorithm="convnet"}') == 25


def test_no_counter_goes_backwards(settings: Settings, database: Database, tmp_path: Path) -> None:
    """Neither while two processes answer, nor when one is killed and replaced."""
    port = free_ports(1)[0]
    server = Scraped(port)
    created = 'model_service_api_requests_total{endpoint="/api/v1/models",method="POST",status="201"}'
    highest: dict[str, float] = {}

    def look() -> None:
        for series, value in server.counters().items():
            assert value >= highest.get(series, 0), series
            highest[series] = value

    def create(number: int) -> bool:
        return server.request("POST", "/api/v1/models", new_model(name=f"m{number}")) == 201

    with (
        running("model_service.api", settings, tmp_path / "log", port=port, api_workers=2) as process,
        ThreadPoolExecutor(2) as threads,
    ):
        wait_for(server.answers, "the API", deadline_s=_START_S)
        victim, _ = psutil.Process(process.pid).children()[-2:]
        answers = [threads.submit(create, number) for number in range(40)]
        while not all(answer.done() for answer in answers):
            look()
        assert all(answer.result() for answer in answers)
        assert server.value(created) == 40
        victim.kill()
        wait_for(lambda: not victim.is_running(), "the killed process to be replaced")
        wait_for(server.answers, "the other process")
        for number in range(40, 45):
            assert create(number)
            look()
        look()
        assert server.value(created) == 45


def test_serving_processes_count_together(settings: Settings, database: Database, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    server = Scraped(port)
    refused = 'model_service_inference_requests_total{status="404"}'
    with running("model_service.serving", settings, tmp_path / "log", inference_port=port) as process:
        wait_for(lambda: server.answers("/health"), "the inference server", deadline_s=_START_S)
        for total in (3, 6):
            for _ in range(3):
                assert server.request("POST", "/v1/infer/unknown", {"input": [1]}) == 404
            assert server.value(refused) == total
            (victim,) = psutil.Process(process.pid).children()
            victim.kill()
            wait_for(lambda pid=victim.pid: _children(process) not in ([], [pid]), "the next process")
            assert server.value(refused) == total


def _children(process: "subprocess.Popen[bytes]") -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def test_workers_of_a_host_count_together(settings: Settings, database: Database, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    server = Scraped(port)
    services = build_services(settings, build_stores(database, settings))
    scanned = 'model_service_file_scans_total{verdict="safe"}'
    worker = {"worker_metrics_port": port, "export_prewarm": "false"}

    def upload_and_scan(name: str, total: int) -> None:
        uploaded(services, pickle.dumps({name: [1.0, 2.0]}), name=name)
        wait_for(lambda: server.value(scanned) == total, f"{total} scans", deadline_s=_START_S)

    with running("model_service.jobs", settings, tmp_path / "one", **worker) as first:
        wait_for(server.answers, "the first worker", deadline_s=_START_S)
        upload_and_scan("one", 1)
        first.kill()
        first.wait()
        with running("model_service.jobs", settings, tmp_path / "two", **worker):
            wait_for(server.answers, "the second worker", deadline_s=_START_S)
            upload_and_scan("two", 2)
            with running("model_service.jobs", settings, tmp_path / "three", **worker) as third:
                wait_for(lambda: _reports(database, third.pid), "the third worker", deadline_s=_START_S)
                assert {server.value(scanned) for _ in range(10)} == {2.0}


def _reports(database: Database, pid: int) -> bool:
    return any(worker["_id"].endswith(f"-{pid}") for worker in Workers(database).alive(ALIVE_S))


def test_the_folder_is_chosen_before_the_first_import() -> None:
    with pytest.raises(RuntimeError, match="before the folder"):
        count_in(Path("unused"))
