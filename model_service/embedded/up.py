"""``model-service up``: runs the whole service on this machine until it is stopped."""

import http.client
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_service import up_file
from model_service.config import Settings, SettingsError, Unreachable, http_url, redact_url
from model_service.embedded import mongo, redis
from model_service.embedded.child import Process
from model_service.embedded.console import Console
from model_service.embedded.errors import EmbeddedError, PortInUse
from model_service.embedded.family import guarded
from model_service.embedded.lock import locked
from model_service.embedded.ports import remembered_port, require_port
from model_service.embedded.servers import Addresses
from model_service.embedded.supervisor import Supervisor
from model_service.storage.common.db import check_database
from model_service.storage.common.shared_redis import check_redis
from model_service.tiers import Tiers

_LOGS_FD = 2  # logs go to stderr, so that stdout contains only the addresses
_PROBE_S = 0.5


@dataclass(frozen=True)
class _Plan:
    """The processes to start, databases first, and their addresses."""

    databases: list[Process]
    services: list[Process]
    addresses: Addresses


def run(settings: Settings, *, data_dir: Path, ready: Callable[[Addresses], None] | None = None) -> int:
    """Start missing servers and the service, supervise them, and return the exit code after a signal.

    The signals are SIGINT, SIGTERM and SIGHUP. ``ready`` is called once, from the supervising loop, so it
    must return soon. When all processes are ready, ``data_dir/up.json`` is written with the addresses and
    process ids; it is removed at the end.
    """
    os.umask(0o077)  # all processes inherit it: only this user can read their files
    try:
        with locked(data_dir) as lock:
            report = data_dir / up_file.NAME
            report.unlink(missing_ok=True)  # left by a run whose launcher and guard were killed
            with guarded(data_dir, lock, remove=[report]) as family:
                plan = _plan(settings, data_dir, family.environment())
                names = [process.name for process in [*plan.databases, *plan.services]]

                def started() -> None:
                    print(_greeting(plan.addresses, data_dir), flush=True)
                    if ready is not None:
                        ready(plan.addresses)

                try:
                    Supervisor(
                        [plan.databases, plan.services],
                        family,
                        Console(_LOGS_FD, names, as_text=settings.logs_as_text(_LOGS_FD)),
                        started=started,
                        changed=lambda pids: _write_report(report, plan.addresses, pids),
                    ).run()
                finally:
                    report.unlink(missing_ok=True)
    except Unreachable as exc:
        hint = "Start that server, or unset the variable: then model-service starts one here."
        print(f"model-service up: {exc}. {hint}", file=sys.stderr)
        return 1
    except (EmbeddedError, SettingsError) as exc:
        print(f"model-service up: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def _plan(settings: Settings, data_dir: Path, env: Mapping[str, str]) -> _Plan:
    """Check all settings that can be checked in advance, and return what to start.

    Raises:
        EmbeddedError, SettingsError: a check failed.
    """
    Tiers.read(settings)
    if settings.port == settings.inference_port:
        raise PortInUse(
            f"Port {settings.port} is used for both servers. Choose another one with --inference-port."
        )
    require_port(settings.host, settings.port, "--port")
    require_port(settings.inference_host, settings.inference_port, "--inference-port")
    databases = []

    if settings.mongodb_url is not None:
        mongodb_url = settings.mongodb_url.get_secret_value()
        check_database(settings)
    else:
        mongodb_port = remembered_port(data_dir / "mongodb.port")
        mongodb_url = mongo.url(mongodb_port)
        argv = mongo.argv(data_dir / "mongodb", mongodb_port, settings.mongodb_cache_gb)
        databases.append(
            Process("mongod", argv, env, lambda: mongo.is_primary(mongodb_port), readable=mongo.readable)
        )
    if settings.redis_url is not None:
        redis_url = settings.redis_url.get_secret_value()
        check_redis(settings)
    else:
        redis_port = remembered_port(data_dir / "redis.port")
        redis_url = redis.url(redis_port)
        argv = redis.argv(data_dir / "redis", redis_port)
        databases.append(Process("redis", argv, env, lambda: redis.answers(redis_port)))

    addresses = Addresses(
        mongodb_url=mongodb_url,
        redis_url=redis_url,
        api=http_url(_reachable(settings.host), settings.port),
        inference=http_url(_reachable(settings.inference_host), settings.inference_port),
    )
    return _Plan(databases, _services(settings, addresses, data_dir, env), addresses)


def _services(
    settings: Settings, addresses: Addresses, data_dir: Path, env: Mapping[str, str]
) -> list[Process]:
    env = {
        **env,
        "MONGODB_URL": addresses.mongodb_url,
        "REDIS_URL": addresses.redis_url,
        "LOG_FORMAT": "json",  # the console converts it to text
        "HOST": settings.host,
        "PORT": str(settings.port),
        "INFERENCE_PORT": str(settings.inference_port),
        "MODEL_SERVICE_HOME": str(data_dir),
    }

    def python(module: str) -> list[str]:
        return [sys.executable, "-m", f"model_service.{module}"]

    return [
        Process("api", python("api"), env, lambda: _answers(settings.host, settings.port, "/health")),
        Process("worker", python("jobs"), env),
        Process(
            "inference",
            python("serving"),
            env,
            lambda: _answers(settings.inference_host, settings.inference_port, "/health/ready"),
        ),
    ]


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=_PROBE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reachable(host: str) -> str:
    """Return an address to connect to, for an address that a server listens on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def _write_report(report: Path, addresses: Addresses, pids: Mapping[str, int]) -> None:
    """Write up.json with mode 0600 (by the umask), since a configured MONGODB_URL may contain a password."""
    content = {
        "api": addresses.api,
        "inference": addresses.inference,
        "mongodb_url": addresses.mongodb_url,
        "redis_url": addresses.redis_url,
        "pid": os.getpid(),
        "pids": dict(pids),
    }
    aside = report.with_suffix(".tmp")
    try:
        aside.write_text(json.dumps(content, indent=2) + "\n")
        aside.replace(report)
    except OSError as exc:  # a full disk must not stop the service
        print(f"model-service up: {report} cannot be written: {exc.strerror}", file=sys.stderr)


def _greeting(addresses: Addresses, data_dir: Path) -> str:
    return (
        "\n"
        f"  registry     {addresses.api}\n"
        f"  its pages    {addresses.api}/docs\n"
        f"  inference    {addresses.inference}\n"
        f"  MongoDB      {redact_url(addresses.mongodb_url)}\n"
        f"  Redis        {redact_url(addresses.redis_url)}\n"
        f"  data folder  {data_dir}\n"
    )
