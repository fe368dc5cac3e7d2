"""What cannot get better by starting again ends a program at once: one line, and exit code 2."""

import ctypes
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from model_service.config import SettingsError, Unreachable, read_settings
from model_service.embedded import Addresses
from model_service.storage.common.db import check_database
from model_service.storage.common.shared_redis import check_redis
from tests.waiting import wait_for, wait_until_gone

WRONG, AWAY = 2, os.EX_TEMPFAIL
PROGRAMS = ("api", "jobs", "serving")


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def environment(servers: Addresses, tmp_path: Path, **settings: str) -> Mapping[str, str]:
    return os.environ | {
        "MONGODB_URL": servers.mongodb_url,
        "REDIS_URL": servers.redis_url,
        "MODEL_SERVICE_HOME": str(tmp_path / "home"),
        "PORT": free_port(),
        "INFERENCE_PORT": free_port(),
        **settings,
    }


def start_programs(
    env: Mapping[str, str], names: tuple[str, ...], confine: Callable[[], None] | None = None
) -> dict[str, subprocess.Popen[str]]:
    return {
        name: subprocess.Popen(
            [sys.executable, "-m", f"model_service.{name}"],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=confine,
        )
        for name in names
    }


def assert_each_says(
    env: Mapping[str, str],
    hint: str,
    *,
    code: int = WRONG,
    programs: tuple[str, ...] = PROGRAMS,
    confine: Callable[[], None] | None = None,
) -> None:
    """In one line, which has ``hint`` and no password. ``confine`` runs in the process before the program."""
    for name, program in start_programs(env, programs, confine).items():
        _, said = program.communicate(timeout=60)
        assert program.returncode == code, (name, said)
        assert len(said.strip().splitlines()) == 1, (name, said)
        assert hint in said, name
        assert "wrong-secret" not in said


# What another release of granian may do.
OTHER_CALL = "from granian.server import mp; mp._wsgi_call_wrap = lambda application, scope: None"
NO_CALL = "from granian.server import mp; del mp._wsgi_call_wrap"
UNUSED_CALL = "from granian.server import mp; mp.MPServer._spawn_wsgi_worker = lambda *given: None"
OTHER_SOCKET = "from granian.server.embed import Server; Server._init_shared_socket = lambda self: None"
SERVING_PROCESS = "model_service.serving.pool.process"


@pytest.mark.parametrize(
    ("change", "module", "arguments"),
    [
        *((change, "model_service.api.__main__", []) for change in (OTHER_CALL, NO_CALL, UNUSED_CALL)),
        (OTHER_SOCKET, SERVING_PROCESS, ["--index", "0", "--control", "0"]),
    ],
)
def test_a_granian_without_the_private_names_that_are_replaced(
    servers: Addresses, tmp_path: Path, change: str, module: str, arguments: list[str]
) -> None:
    code = f"import sys; {change}; from {module} import main; sys.exit(main())"
    control, _ = socket.socketpair()
    with control:
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment(servers, tmp_path),
            stdin=control,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ended.returncode == WRONG, ended.stderr
    assert "pip install 'model-service[server]'" in ended.stderr


def test_the_granian_of_the_requirements_is_the_one_that_is_tested() -> None:
    root = Path(__file__).parent.parent
    (allowed,) = re.findall(r'"granian(.+?)"', (root / "pyproject.toml").read_text())
    assert allowed == f"=={metadata.version('granian')}"
    assert f"\ngranian{allowed}\n" in (root / "requirements.txt").read_text()


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as error:
        check()
    assert error.value.exit_code == WRONG
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def refusal_of_mongodb(url: str) -> str:
    return refusal(lambda: check_database(read_settings(mongodb_url=url)))


def refusal_of_redis(url: str) -> str:
    return refusal(lambda: check_redis(read_settings(redis_url=url)))


def test_a_standalone_mongod(servers: Addresses, tmp_path: Path, standalone: str) -> None:
    env = environment(servers, tmp_path, MONGODB_URL=standalone)
    assert_each_says(env, "is a standalone server, which has no transactions. Start it with --replSet")
    of_no_set = refusal_of_mongodb(f"{standalone}?replicaSet=rs0")
    assert "is not a member of the replica set that replicaSet names" in of_no_set


def test_mongodb_users(secured: str) -> None:
    said = refusal_of_mongodb(f"mongodb://writer:wrong-secret@{secured}")
    assert said.endswith("does not accept the user and the password: correct them, or create the user")
    assert refusal_of_mongodb(f"mongodb://{secured}").endswith(
        "requires a user and a password: add them, as in mongodb://USER:PASSWORD@HOST/"
    )
    assert refusal_of_mongodb(f"mongodb://reader:secret@{secured}").endswith(
        "the user reader lacks permission for createCollection, createIndex, insert, remove, update in the "
        "database tensorfleet: grant it the role readWrite there."
    )
    check_database(read_settings(mongodb_url=f"mongodb://writer:secret@{secured}"))


def test_a_wrong_password_of_mongodb(servers: Addresses, tmp_path: Path, secured: str) -> None:
    env = environment(servers, tmp_path, MONGODB_URL=f"mongodb://writer:wrong-secret@{secured}")
    assert_each_says(env, "does not accept the user and the password: correct them")


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"API_KEY_FILE": "/nowhere/api_key"}, "API_KEY_FILE: /nowhere/api_key cannot be read"),
        ({"API_KEY": "changeme-changeme"}, "API_KEY is not allowed: it is a placeholder. Generate"),
        ({"SIGNING_SECRET": "example" * 8}, "SIGNING_SECRET is not allowed: it is a placeholder. Generate"),
    ],
)
def test_a_secret_that_is_missing_or_a_placeholder(
    servers: Addresses, tmp_path: Path, settings: dict[str, str], hint: str
) -> None:
    assert_each_says(environment(servers, tmp_path, ENABLE_AUTH="true", **settings), hint)


def test_only_the_registry_needs_the_key_of_the_administrator(servers: Addresses, tmp_path: Path) -> None:
    env = environment(servers, tmp_path, ENABLE_AUTH="true")
    hint = "ENABLE_AUTH=true needs API_KEY, a secret of at least 16 characters"
    assert_each_says(env, hint, programs=("api",))
    up = subprocess.run(
        [sys.executable, "-m", "model_service.cli", "up"],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (up.returncode, up.stderr) == (WRONG, f"error: invalid_setting: {hint}\n")
    assert read_settings(enable_auth=True, host="0.0.0.0").api_key is None


def test_a_file_of_mongodb_url_that_is_not_there(servers: Addresses) -> None:
    said = refusal_of_mongodb(f"{servers.mongodb_url}&tls=true&tlsCAFile=/nowhere/ca.pem")
    assert said == "MONGODB_URL names /nowhere/ca.pem, which cannot be read: No such file or directory"


def test_redis_that_refuses(servers: Addresses, tmp_path: Path, locked_redis: str) -> None:
    env = environment(servers, tmp_path, REDIS_URL=f"redis://:wrong-secret@{locked_redis}/0")
    assert_each_says(env, "does not accept the user and the password", programs=("api", "jobs"))
    assert "does not accept" in refusal_of_redis(f"redis://{locked_redis}/0")
    assert "DB index is out of range" in refusal_of_redis(f"redis://:secret@{locked_redis}/99")


def test_a_data_folder_that_cannot_be_made(servers: Addresses, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    env = environment(servers, tmp_path)
    assert_each_says(env, f"MODEL_SERVICE_HOME: {tmp_path}/home cannot be created")


def obey_modes() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root may write to and enter every folder."""
    pr_capbset_drop = 24
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(pr_capbset_drop, capability, 0, 0, 0)


def write_no_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_a_volume_that_cannot_be_written(servers: Addresses, tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    for folder in (home, cache):
        folder.mkdir(mode=0o555)
    advice = "Set MODEL_SERVICE_HOME to a folder that the user"
    env = environment(servers, tmp_path)
    assert_each_says(env, f"this user cannot write to {home}. {advice}", confine=obey_modes)
    env = environment(servers, tmp_path / "other", CACHE_DIR=str(cache))
    assert_each_says(
        env, f"CACHE_DIR: this user cannot write to {cache}", programs=("api",), confine=obey_modes
    )


def test_without_a_temporary_folder(servers: Addresses, tmp_path: Path) -> None:
    """As on a read-only root file system."""
    # A process that can write no file measures no coverage.
    env = {
        name: value
        for name, value in environment(servers, tmp_path).items()
        if not name.startswith("COVERAGE_")
    }
    assert_each_says(env, "Mount a writable /tmp, or set TMPDIR", confine=write_no_files)


def test_a_port_that_is_in_use(servers: Addresses, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as a server of ours has it
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        env = environment(servers, tmp_path, PORT=port, INFERENCE_PORT=port)
        assert_each_says(
            env, f"PORT={port} is in use. Stop the program that uses it", programs=("api", "serving")
        )


def test_a_port_of_workers_that_is_in_use(servers: Addresses, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        env = environment(servers, tmp_path, WORKER_METRICS_PORT=port)
        assert_each_says(env, f"WORKER_METRICS_PORT={port} cannot be used", programs=("jobs",))


def test_a_server_that_is_away_may_come_back(servers: Addresses, tmp_path: Path) -> None:
    env = environment(servers, tmp_path, MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}/")
    assert_each_says(env, "MONGODB_URL: no response from", code=AWAY)
    with pytest.raises(Unreachable, match="REDIS_URL: no response from"):
        check_redis(read_settings(redis_url=f"redis://127.0.0.1:{free_port()}/"))


def test_nothing_outlives_a_program_that_was_killed(servers: Addresses, tmp_path: Path) -> None:
    programs = start_programs(environment(servers, tmp_path), PROGRAMS)
    processes = [psutil.Process(program.pid) for program in programs.values()]
    try:
        wait_for(lambda: all(each.children() for each in processes), "their children", deadline_s=60)
        left = [child.pid for each in processes for child in each.children(recursive=True)]
    finally:
        for program in programs.values():
            program.kill()
            program.communicate()
    wait_until_gone(left, deadline_s=15)
