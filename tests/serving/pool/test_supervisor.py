"""The pool as its clients and its operator see it: real processes behind one port."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.exposition import samples
from tests.waiting import wait_for


@dataclass
class Pool:
    folder: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = os.environ | {
            "INFERENCE_PORT": str(self.port),
            "INFERENCE_MAX_PROCESSES": "3",
            "MODEL_SERVICE_HOME": str(self.folder),
        }
        command = [sys.executable, "-m", "model_service.serving"]
        command += ["--application", "tests.serving.pool.application:make"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, env=env, stdout=output, stderr=output)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def want(self, *wishes: tuple[int, int, float]) -> None:
        aside = self.folder / "wishes.tmp"
        aside.write_text(json.dumps(wishes))
        aside.replace(self.folder / "wishes")

    def members(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def ask(self, path: str = "/") -> str:
        """Over a connection of its own."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def answers(self) -> bool:
        try:
            return bool(self.ask())
        except OSError:
            return False

    def told(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def wait_for_ready(self, count: int) -> None:
        wait_for(lambda: len(self.told("pool.process_ready")) >= count, f"{count} processes")


@dataclass
class Clients:
    """Connections that are kept alive, each asking on and on."""

    pool: Pool
    path: str = "/"
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = self.pool.connect()
        while not self._end.wait(0.005):
            try:
                connection.request("GET", self.path)
                self.answers[connection.getresponse().read().decode()] += 1
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(repr(exc))
                connection.close()
        connection.close()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = Pool(tmp_path, port, tmp_path / "pool.log")
    yield pool
    if pool.process is not None and pool.process.poll() is None:
        pool.stop()


@pytest.fixture
def serving(pool: Pool) -> Pool:
    pool.start()
    pool.wait_for_ready(1)
    return pool


def test_a_killed_process_is_replaced_and_whoever_connects_meanwhile_is_answered(serving: Pool) -> None:
    before = int(serving.ask())
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(before), "the process to be gone")
    assert int(serving.ask()) != before  # no condition to wait for: the connection waits
    assert [line["ending"] for line in serving.told("pool.process_died")] == ["SIGKILL"]


def test_what_a_dead_process_counted_stays_counted(serving: Pool) -> None:
    serving.want((2, 2, 70))
    serving.wait_for_ready(2)
    pids = Counter(serving.ask() for _ in range(20))
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    serving.wait_for_ready(2 + len(pids))
    counted = samples(serving.ask("/metrics"))
    assert counted['model_service_inference_requests_total{status="200"}'] == 20


def test_clients_whose_connections_stay_open_follow_the_pool_up_and_down(serving: Pool) -> None:
    with Clients(serving) as clients:
        wait_for(lambda: clients.answers.total() > 50, "the first answers")
        serving.want((3, 3, 70))
        serving.wait_for_ready(3)
        wait_for(lambda: len(clients.answers) == 3, "all processes to answer")
        serving.want((1, 1, 70))
        wait_for(lambda: len(serving.told("pool.process_given_back")) == 2, "the pool to shrink")
        answered = clients.answers.total()
        wait_for(lambda: clients.answers.total() > answered + 50, "answers from what is left")
    assert clients.failures == []
    assert [line["processes"] for line in serving.told("pool.resized")] == [3, 1]


def test_it_grows_under_load(serving: Pool) -> None:
    serving.want((1, 2, 50))
    with Clients(serving, "/busy") as clients:
        serving.wait_for_ready(2)
        wait_for(lambda: len(clients.answers) == 2, "both processes to answer")
    assert clients.failures == []
    assert [line["processes"] for line in serving.told("pool.resized")] == [2]


def test_nobody_serves_on_when_the_supervisor_is_killed(serving: Pool) -> None:
    serving.want((2, 2, 70))
    serving.wait_for_ready(2)
    members = serving.members()
    assert serving.process is not None
    serving.process.kill()
    serving.process.wait(timeout=30)
    _, alive = psutil.wait_procs(members, timeout=30)
    assert alive == []
    assert {*serving.folder.glob("stopped-*")} == {serving.folder / f"stopped-{each.pid}" for each in members}
    serving.start()
    wait_for(serving.answers, "the port to be served again")


def test_a_request_under_way_is_answered_when_the_pool_is_stopped(serving: Pool) -> None:
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(serving.ask("/slow")))
    asking.start()
    wait_for((serving.folder / "slow").exists, "the request to arrive")
    members = serving.members()
    assert serving.stop() == 0
    asking.join()
    assert answers == [str(members[0].pid)]
    assert not serving.answers()


def test_the_first_process_answers_before_it_is_ready(pool: Pool) -> None:
    (pool.folder / "never-ready").touch()
    pool.start()
    wait_for(pool.answers, "an answer")
    assert pool.told("pool.process_ready") == []


def test_another_process_gets_no_connection_before_it_is_ready(serving: Pool) -> None:
    (serving.folder / "never-ready").touch()
    serving.want((2, 2, 70))
    wait_for(lambda: len(serving.members()) == 2, "another process")
    second = psutil.Process(max(each.pid for each in serving.members()))
    wait_for(lambda: second.num_threads() > 2, "it to have come up")  # it listens to the supervisor
    assert len({serving.ask() for _ in range(20)}) == 1


def test_a_process_that_cannot_come_up_is_tried_again_and_again(pool: Pool) -> None:
    (pool.folder / "broken").touch()
    pool.start()
    wait_for(lambda: len(pool.told("pool.process_died")) >= 3, "it to be tried three times")
    pauses = [float(str(line["again_in_s"])) for line in pool.told("pool.process_died")]
    assert pauses[:3] == [0.0, 0.25, 0.5]
    (pool.folder / "broken").unlink()
    wait_for(pool.answers, "it to come up at last")


def test_a_port_that_is_taken_is_said(pool: Pool) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another inference server would
        taken.bind(("127.0.0.1", pool.port))
        taken.listen()
        pool.start()
        assert pool.process is not None
        assert pool.process.wait(timeout=30) == 2
    assert f"INFERENCE_PORT={pool.port} is in use" in pool.log.read_text()


def test_a_wrong_setting_stops_the_start(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_INFERENCE_BODY", "much")
    pool.start()
    assert pool.process is not None
    assert pool.process.wait(timeout=30) == 2
    assert "MAX_INFERENCE_BODY=much is not allowed" in pool.log.read_text()


def test_the_supervisor_is_light(serving: Pool) -> None:
    assert serving.process is not None
    assert psutil.Process(serving.process.pid).memory_info().rss < 30 << 20
    loaded = "import sys, model_service.serving.__main__; print(sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout
    for heavy in ("'numpy'", "'onnxruntime'", "'pymongo'", "'pydantic'", "'structlog'"):
        assert heavy not in modules
