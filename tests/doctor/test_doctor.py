"""``model-service doctor`` as an operator runs it: every fault at once, and a set-up without one."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from model_service.embedded import Addresses
from tests.test_start import environment, obey_modes

pytestmark = pytest.mark.timeout(600)
_LONGEST_S = 350  # doctor may import all toolchains, and ends after 300 s


@pytest.fixture
def used_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def doctor(env: Mapping[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run as a user who has only the rights that the modes of files give."""
    return subprocess.run(
        [sys.executable, "-m", "model_service.cli", "doctor", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        preexec_fn=obey_modes,
    )


def messages(env: Mapping[str, str], status: str) -> dict[str, list[str]]:
    """The messages of this status, by check. No message has a secret."""
    done = doctor(env, "--json")
    assert "wrong-secret" not in done.stdout + done.stderr
    assert done.returncode == 1, done.stderr
    found: dict[str, list[str]] = {}
    for each in json.loads(done.stdout)["checks"]:
        if each["status"] == status:
            found.setdefault(each["check"], []).append(each["message"])
    return found


def test_no_fault_hides_another(
    servers: Addresses, standalone: str, locked_redis: str, used_port: str, tmp_path: Path
) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    for folder in (home, cache):
        folder.mkdir(mode=0o555)
    env = environment(
        servers,
        tmp_path,
        MONGODB_URL=standalone,
        REDIS_URL=f"redis://:wrong-secret@{locked_redis}/0",
        ENABLE_AUTH="true",
        TIERS_FILE=str(tmp_path / "tiers.toml"),
        CACHE_DIR=str(cache),
        PORT=used_port,
        WORKER_METRICS_PORT=used_port,
    )
    errors = messages(env, "error")
    for check, hint in {
        "authentication": "ENABLE_AUTH=true needs API_KEY, a secret of at least 16 characters",
        "tiers": "cannot be read",
        "data-folder": f"this user cannot write to {home}. Set MODEL_SERVICE_HOME to a folder",
        "cache-folder": f"CACHE_DIR: this user cannot write to {cache}",
        "port": f"PORT={used_port} is in use. Stop the program that uses it",
        "worker-port": f"WORKER_METRICS_PORT={used_port} is in use. Stop the program",
        "mongodb": "is a standalone server, which has no transactions. Start it with --replSet",
        "redis": "does not accept the user and the password: correct them",
    }.items():
        (message,) = errors.pop(check)
        assert hint in message, check
    assert errors == {}


def test_secrets_that_are_wrong_or_placeholders(
    servers: Addresses, secured: str, locked_redis: str, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file")
    env = environment(
        servers,
        tmp_path,
        MONGODB_URL=f"mongodb://writer:wrong-secret@{secured}",
        REDIS_URL=f"redis://{locked_redis}/0",
        ENABLE_AUTH="true",
        API_KEY="changeme-changeme",
        SIGNING_SECRET_FILE="/nowhere/signing_secret",
        MAX_FILE_SIZE="large",
    )
    errors = messages(env, "error")
    settings = errors.pop("settings")
    for hint in (
        "SIGNING_SECRET_FILE: /nowhere/signing_secret cannot be read",
        "API_KEY is not allowed: it is a placeholder. Generate",
        "MAX_FILE_SIZE=large is not allowed",
    ):
        assert [line for line in settings if hint in line], settings
    assert len(settings) == 3
    assert "does not accept the user and the password" in errors.pop("mongodb")[0]
    assert "does not accept the user and the password" in errors.pop("redis")[0]
    assert (
        f"{tmp_path}/home cannot be created: {tmp_path}/home is not a folder" in errors.pop("data-folder")[0]
    )
    errors.pop("cache-folder")
    assert errors == {}


def test_a_folder_that_this_user_cannot_enter(servers: Addresses, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    env = environment(servers, tmp_path, MODEL_SERVICE_HOME=str(closed / "home"))
    errors = messages(env, "error")
    for check, variable, parent in (
        ("data-folder", "MODEL_SERVICE_HOME", closed),
        ("cache-folder", "CACHE_DIR", closed / "home"),
    ):
        (message,) = errors.pop(check)
        assert f"{variable}: this user cannot enter {parent}: Permission denied. Let the user" in message
    assert errors == {}


def test_a_part_needs_only_its_own(servers: Addresses, used_port: str, tmp_path: Path) -> None:
    """No administrator's key, no cache, no free port of another part, and no proxy before its own port."""
    env = environment(
        servers,
        tmp_path,
        ENABLE_AUTH="true",
        PORT=used_port,
        INFERENCE_PORT=used_port,
        MODEL_SERVICE_URL=f"http://127.0.0.1:{used_port}",
    )
    done = doctor(env, "--json", "--part", "worker")
    assert done.returncode == 0, done.stdout
    checks = {each["check"] for each in json.loads(done.stdout)["checks"]}
    assert checks & {"authentication", "tiers", "cache-folder", "port", "inference-port"} == set()
    assert "proxy" not in checks
    assert {"settings", "data-folder", "format-onnx"} <= checks
    wrong = doctor(env, "--part", "database")
    assert wrong.returncode == 2
    assert "api, worker, serving" in wrong.stderr


# Runs the command in a process that reports whether it imported torch.
_WITHOUT_TORCH = """
import sys
from model_service.cli import main
try:
    main()
except SystemExit as ended:
    assert "torch" not in sys.modules
    raise
"""


def test_a_set_up_without_faults(servers: Addresses, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, "doctor"],
        env=environment(servers, tmp_path),
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert "error" not in {line.split()[0] for line in lines.values()}
    for check in (
        *(
            "settings",
            "authentication",
            "tiers",
            "data-folder",
            "cache-folder",
            "temporary-folder",
            "open-files",
            "memory",
        ),
        *("port", "inference-port", "mongodb", "mongodb-replica-set", "mongodb-clock", "mongodb-user"),
        *("data-version", "redis", "redis-memory", "redis-clock"),
    ):
        assert check in lines, done.stdout
    assert lines["format-onnx"].startswith("ok ")
    assert lines["format-tensorrt"].startswith("warning ")
    assert "install" in lines["format-tensorrt"]
    assert "error: 0" in done.stderr
    assert not (tmp_path / "home").exists()


def test_without_an_address(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "REDIS_URL")}
    errors = messages({**env, "MODEL_SERVICE_HOME": str(tmp_path)}, "error")
    for check, variable in {"mongodb": "MONGODB_URL", "redis": "REDIS_URL"}.items():
        assert errors[check] == [
            f"{variable} is not set: set it to a running server, or run 'model-service up', which starts one"
        ]
