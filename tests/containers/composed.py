"""Runs the processes of docker-compose.yml without an engine: their command, environment and secrets."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pymongo import MongoClient
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from model_service.embedded import mongo, redis
from model_service.embedded.family import Family
from tests.containers.dockerfile import images
from tests.e2e.conftest import free_ports
from tests.faulty_servers import family, start
from tests.test_docs import ROOT
from tests.waiting import wait_for

STOP_S = 20  # stop_grace_period


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def target(service: str) -> str:
    """The target of the Dockerfile that a service is built from."""
    found: str = compose()["services"][service]["build"]["target"]
    return found


def interpolated(text: str) -> str:
    """``${NAME:-default}`` as with an empty .env."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@dataclass(frozen=True)
class Composed:
    """The addresses of ``databases``; the secrets are in ``folder/secrets``."""

    folder: Path
    ports: dict[str, int]

    def settings(self, service: str) -> dict[str, str]:
        """The variables of the file, with the ports of this machine."""
        given = compose()["services"][service].get("environment", {})
        return {name: interpolated(str(value)) for name, value in given.items()} | {
            "PORT": str(self.ports["model-service"]),
            "INFERENCE_PORT": str(self.ports["serving"]),
            "WORKER_METRICS_PORT": str(self.ports["worker"]),
            "MODEL_SERVICE_URL": f"http://127.0.0.1:{self.ports.get(service, 0)}",
        }

    def environment(self, service: str) -> dict[str, str]:
        """The variables of the image and of the file, with the ports and folders of this machine."""
        home = self.folder / service
        home.mkdir(exist_ok=True)
        here = {"MODEL_SERVICE_HOME": str(home), "HOME": str(home), "PATH": os.environ["PATH"]}
        found = images()[target(service)].env | self.settings(service) | here
        return {
            name: value.replace("/run/secrets", str(self.folder / "secrets")) for name, value in found.items()
        }

    def argv(self, service: str) -> list[str]:
        return command(compose()["services"][service].get("command") or images()[target(service)].command)

    def run(self, service: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run the service's command until it ends."""
        env = self.environment(service) | changes
        return subprocess.run(self.argv(service), env=env, capture_output=True, text=True, timeout=60)

    def is_healthy(self, service: str) -> bool:
        """Run the health check of its image."""
        health = images()[target(service)].health
        return (
            subprocess.run(command(health), env=self.environment(service), capture_output=True).returncode
            == 0
        )

    @contextmanager
    def running(self, *services: str) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
        """Run them in the block, and kill what has not ended then."""
        started = {}
        try:
            for service in services:
                with (self.folder / f"{service}.log").open("wb") as log:
                    started[service] = subprocess.Popen(
                        self.argv(service), env=self.environment(service), stderr=log
                    )
            yield started
        finally:
            for process in started.values():
                process.kill()
                process.wait()


def command(words: "list[str] | tuple[str, ...]") -> list[str]:
    """The command of a container, with this environment's Python."""
    programs = {"python": [sys.executable], "model-service": [sys.executable, "-m", "model_service.cli"]}
    return [*programs[words[0]], *words[1:]]


@contextmanager
def databases(folder: Path) -> Iterator[Composed]:
    """MongoDB and Redis as in the compose file, over the secrets in ``folder/secrets``.

    Their addresses in the secrets are replaced by those of this machine.
    """
    names = ("mongodb", "redis", "model-service", "worker", "serving")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    secrets = folder / "secrets"
    for name in ("mongodb_url", "mongodb_admin_url", "redis_url"):
        text = (secrets / name).read_text()
        (secrets / name).unlink()
        for host, port in (("mongodb", 27017), ("redis", 6379)):
            text = text.replace(f"@{host}:{port}", f"@127.0.0.1:{ports[host]}")
        (secrets / name).write_text(text)
    with family(folder) as run:
        _start_mongodb(run, folder, ports["mongodb"])
        _start_redis(run, folder, ports["redis"])
        yield Composed(folder, ports)


def _start_mongodb(run: Family, folder: Path, port: int) -> None:
    """As MongoDB's image does: the user root is created before mongod requires users."""
    argv = mongo.argv(folder / "mongodb", port, 0.25)
    at = argv.index("--replSet")
    alone = [*argv[:at], *argv[at + 2 :]]
    member = start(run, folder, alone)
    root = (folder / "secrets" / "mongodb_root_password").read_text()
    with MongoClient[Mapping[str, Any]]("127.0.0.1", port, directConnection=True) as client:
        client.admin.command("createUser", "root", pwd=root, roles=["root"])
    run.end([member], 20)
    while member.code is None:
        run.receive()
    key = folder / "keyfile"
    key.write_text((folder / "secrets" / "mongodb_keyfile").read_text())
    key.chmod(0o400)
    (command,) = compose()["services"]["mongodb"]["command"]
    (replica_set,) = re.findall(r"--replSet (\S+)", command)
    start(run, folder, [*alone, "--replSet", replica_set, "--keyFile", str(key)])


def _start_redis(run: Family, folder: Path, port: int) -> None:
    conf = folder / "redis.conf"
    conf.write_text((folder / "secrets" / "redis_conf").read_text().replace("dir /data", f"dir {folder}"))
    start(run, folder, [redis.argv(folder / "redis", port)[0], str(conf), "--port", str(port)])
    with Redis(port=port) as client:
        wait_for(lambda: _requires_a_password(client), "Redis")


def _requires_a_password(client: "Redis[bytes]") -> bool:
    try:
        client.ping()
    except AuthenticationError:
        return True
    except RedisError:
        return False
    return False
