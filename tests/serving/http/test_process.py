"""The inference server as a process: what it writes when it is stopped, what it gives up when it dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import urllib3

from model_service.config import Settings
from tests.exposition import samples
from tests.serving.conftest import KEY, World
from tests.waiting import wait_for

AWAY = (urllib3.exceptions.HTTPError, KeyError)


@dataclass
class Server:
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "model_service.serving"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, env=self.env, stdout=output, stderr=output)

    def stop(self) -> None:
        """In order, as with Ctrl-C."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def kill(self) -> None:
        """All of it, as what runs out of memory or crashes in native code."""
        assert self.process is not None
        family = psutil.Process(self.process.pid)
        for each in [family, *family.children(recursive=True)]:
            each.kill()
        self.process.wait(timeout=30)

    def predicts(self, deployment_id: str) -> bool:
        answer = urllib3.request(
            "POST",
            f"http://127.0.0.1:{self.env['INFERENCE_PORT']}/v1/infer/{deployment_id}",
            json={"inputs": [[1, 2, 3]]},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=10,
        )
        return answer.status == 200


@pytest.fixture
def server(settings: Settings, world: World, tmp_path: Path) -> Iterator[Server]:
    assert settings.mongodb_url is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "MONGODB_DB": settings.mongodb_db,
        "MODEL_SERVICE_HOME": str(settings.home),
        "INFERENCE_PORT": str(port),
    }
    server = Server(env, tmp_path / "server.log")
    server.start()
    yield server
    server.stop()


def test_usage_counted_last_is_written_when_the_server_is_stopped(
    server: Server, world: World, package_zip: bytes
) -> None:
    deployment_id = world.deploy(package_zip)
    wait_for(lambda: world.status(deployment_id) == "active", "the deployment to be active")
    counted = 0
    while counted == world.document(deployment_id)["request_count"]:  # until some are yet to be written
        assert server.predicts(deployment_id)
        counted += 1
    server.stop()
    assert world.document(deployment_id)["request_count"] == counted, server.log.read_text()


def test_a_package_that_kills_the_server_is_given_up(
    server: Server, world: World, package_zip: bytes, rewrite: Callable[[str, bytes], bytes]
) -> None:
    deadly = world.deploy(package_zip)
    world.hang(deadly)

    def begun() -> list[int]:
        return [*world.document(deadly).get("load_attempts", {}).values()]

    for attempt in (1, 2, 3):
        wait_for(lambda wanted=attempt: begun() == [wanted], f"load {attempt} to begin")  # type: ignore[misc]
        server.kill()
        server.start()
    wait_for(lambda: world.status(deadly) == "failed", "the deployment to be given up")
    assert "while loading, so it is not loaded again" in world.document(deadly)["error_message"]
    harmless = world.deploy(rewrite("README.md", b"another package"))
    wait_for(lambda: world.status(harmless) == "active", "the server to serve others")


def test_the_metrics_of_a_deployment_outlive_a_process_and_end_with_the_deployment(
    server: Server, world: World, package_zip: bytes
) -> None:
    deployment_id = world.deploy(package_zip)
    wait_for(lambda: world.status(deployment_id) == "active", "the deployment to be active")
    counted = 'model_service_deployment_requests_total{deployment="endpoint",member="v1.0",outcome="success"}'

    def metrics() -> dict[str, float]:
        url = f"http://127.0.0.1:{server.env['INFERENCE_PORT']}/metrics"
        return samples(urllib3.request("GET", url, timeout=10).data.decode())

    for _ in range(5):
        assert server.predicts(deployment_id)
    wait_for(lambda: metrics()[counted] == 5, "the requests to be counted", ignoring=AWAY)
    before = metrics()
    assert before['model_service_deployment_batches_total{deployment="endpoint",member="v1.0"}'] == 5
    assert before["model_service_serving_process_deaths_total"] == 0
    assert server.process is not None
    (victim,) = psutil.Process(server.process.pid).children()
    victim.kill()
    wait_for(
        lambda: metrics()["model_service_serving_process_deaths_total"] == 1, "another process", ignoring=AWAY
    )
    assert server.predicts(deployment_id)
    wait_for(lambda: metrics()[counted] == 6, "the counts of both processes", ignoring=AWAY)
    assert metrics()["model_service_loaded_deployments"] == 1
    started = "model_service_serving_start_timestamp_seconds"
    assert metrics()[started] == before[started]  # the server itself was not restarted
    world.database.transaction(lambda session: world.stores.deployments.delete(deployment_id, session))
    wait_for(lambda: not [name for name in metrics() if 'deployment="' in name], "its series to end")


def test_requests_go_on_while_a_killed_process_is_replaced(
    server: Server, world: World, package_zip: bytes
) -> None:
    """What connects in between waits for the next process, which answers nobody before it has loaded."""
    deployment_id = world.deploy(package_zip)
    wait_for(lambda: world.status(deployment_id) == "active", "the deployment to be active")
    assert server.process is not None
    before = psutil.Process(server.process.pid).children()[0]
    before.kill()
    wait_for(lambda: not psutil.pid_exists(before.pid), "it to be gone")
    assert server.predicts(deployment_id), server.log.read_text()
    after = psutil.Process(server.process.pid).children()[0]
    assert after.pid != before.pid
