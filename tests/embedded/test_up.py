"""`model-service up` as a program: what it refuses, and the whole service with each of its parts killed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from model_service.embedded import Addresses
from model_service.embedded.lock import locked
from model_service.embedded.ports import require_port
from tests.waiting import wait_for, wait_until_gone

PROGRAM = """
import pathlib, sys
from model_service.config import read_settings
from model_service.embedded.up import run
data_dir = pathlib.Path(sys.argv[1])
sys.exit(run(read_settings(model_service_home=data_dir), data_dir=data_dir))
"""


def free_ports() -> dict[str, str]:
    port = random.randrange(12_000, 19_000, 2)
    return {"PORT": str(port), "INFERENCE_PORT": str(port + 1)}


def command(data_dir: Path) -> list[str | Path]:
    return [sys.executable, "-c", PROGRAM, data_dir]


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "REDIS_URL")}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2])} | free_ports() | settings


def refusal(data_dir: Path, *, code: int = 1, **settings: str) -> str:
    """What it says on stderr when it does not start."""
    ended = subprocess.run(
        command(data_dir), env=environment(**settings), capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert not (data_dir / "up.json").exists()
    assert not (data_dir / "mongodb").exists(), "something was started"
    return ended.stderr


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(("variable", "scheme"), [("MONGODB_URL", "mongodb"), ("REDIS_URL", "redis")])
def test_an_unreachable_url_is_named_without_its_password(
    tmp_path: Path, servers: Addresses, silent_port: int, variable: str, scheme: str
) -> None:
    good = {"MONGODB_URL": servers.mongodb_url, "REDIS_URL": servers.redis_url}
    url = f"{scheme}://someone:s3cret@127.0.0.1:{silent_port}/"
    said = refusal(tmp_path / "data", **good | {variable: url})
    assert len(said.splitlines()) == 1
    assert f"{variable}: no response from {scheme}://127.0.0.1:{silent_port}" in said
    assert "s3cret" not in said
    assert "someone" not in said


def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path, silent_port: int) -> None:
    said = refusal(tmp_path / "data", PORT=str(silent_port))
    assert f"Port {silent_port} on 127.0.0.1 is in use" in said
    assert "--port" in said
    said = refusal(tmp_path / "data", INFERENCE_PORT=str(silent_port))
    assert "--inference-port" in said


def test_a_missing_tiers_file_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path / "data", code=2, TIERS_FILE=str(tmp_path / "tiers.toml"))
    assert (
        said
        == f"model-service up: TIERS_FILE={tmp_path}/tiers.toml cannot be read: No such file or directory\n"
    )


def test_a_mongodb_of_another_replica_set_is_named(tmp_path: Path, servers: Addresses) -> None:
    url = f"{servers.mongodb_url.partition('?')[0]}?replicaSet=another"
    said = refusal(tmp_path / "data", code=2, MONGODB_URL=url, REDIS_URL=servers.redis_url)
    assert "is not a member of the replica set that replicaSet names" in said
    assert len(said.splitlines()) == 1


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``up`` on ``tmp_path / "data"``, ready; its temporary files are in ``tmp_path / "temporary"``."""
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(
        command(tmp_path / "data"),
        env=environment(TMPDIR=str(tmp_path / "temporary")),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            wait_for((tmp_path / "data" / "up.json").exists, "everything ready", deadline_s=60)
            yield process
        finally:
            process.terminate()


def state(data_dir: Path) -> dict[str, Any]:
    found = json.loads((data_dir / "up.json").read_text())
    assert isinstance(found, dict)
    return found


def ports(data_dir: Path) -> list[int]:
    return [urlsplit(url).port or 0 for url in list(state(data_dir).values())[:4]]


def assert_nothing_is_left(tmp_path: Path, processes: list[psutil.Process], ports: list[int]) -> None:
    wait_until_gone([process.pid for process in processes], deadline_s=15)
    data_dir = tmp_path / "data"
    wait_for(
        lambda: not (data_dir / "run").exists() and not (data_dir / "up.json").exists(), "the files gone"
    )
    assert not list((tmp_path / "temporary").iterdir())
    for port in ports:
        require_port("127.0.0.1", port, "")
    with locked(data_dir):
        pass


def test_the_whole_service_comes_back_from_kill_9_and_stops_cleanly(
    tmp_path: Path, launcher: subprocess.Popen[str]
) -> None:
    data_dir = tmp_path / "data"

    def healthy() -> bool:
        try:
            for url in (f"{state(data_dir)['api']}/health", f"{state(data_dir)['inference']}/health/ready"):
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status != 200:
                        return False
        except OSError:
            return False
        return True

    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "up.json").stat().st_mode & 0o777 == 0o600
    assert healthy()
    for name in ("mongod", "redis", "api", "worker", "inference"):
        killed = state(data_dir)["pids"][name]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: state(data_dir)["pids"][name] != killed and healthy(), f"{name} is back")  # noqa: B023
    processes, used = psutil.Process(launcher.pid).children(recursive=True), ports(data_dir)
    launcher.send_signal(signal.SIGINT)
    stdout, _ = launcher.communicate(timeout=15)
    assert launcher.returncode == 0
    assert "http://127.0.0.1:" in stdout
    assert_nothing_is_left(tmp_path, processes, used)


def test_nothing_is_left_of_the_whole_service_after_kill_9(
    tmp_path: Path, launcher: subprocess.Popen[str]
) -> None:
    processes, used = psutil.Process(launcher.pid).children(recursive=True), ports(tmp_path / "data")
    launcher.kill()
    assert len(processes) >= 7
    assert_nothing_is_left(tmp_path, processes, used)
