"""The processes of the chart's pods, with the environment and the probes that it renders."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import urllib3

from model_service.config import Settings, read_settings
from tests.deploy.rendering import objects
from tests.deploy.test_chart import cron_job, deployment, kinds, pod
from tests.e2e.conftest import free_ports
from tests.waiting import wait_for

MODULES = {"api": "model_service.api", "worker": "model_service.jobs", "serving": "model_service.serving"}
_CORES = "2"  # of resourceFieldRef
_SECRETS = {
    "API_KEY": "348a8f4748f44a06bee893e96f1bb6b2",
    "SIGNING_SECRET": "7353de3f332c78257a87887d445573c5b642c67c88adfd10",
    "MONGODB_URL": "mongodb://mongodb:27017/?replicaSet=rs0",
    "REDIS_URL": "redis://redis:6379/0",
}
# Of the values, not of the chart: other programs read them.
_NOT_SETTINGS = {"SSL_CERT_FILE"}


def environment(
    documents: list[dict[str, Any]], component: str, secrets: Mapping[str, str]
) -> dict[str, str]:
    """What a container of the component has; ``secrets`` are what its secrets hold."""
    template = cron_job(documents)["spec"] if component == "backup" else pod(deployment(documents, component))
    (container,) = template["containers"]
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        (config,) = (
            each
            for each in kinds(documents, "ConfigMap")
            if each["metadata"]["name"] == source["configMapRef"]["name"]
        )
        found |= config["data"]
    for variable in container["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        elif "secretKeyRef" in variable["valueFrom"]:
            found[variable["name"]] = secrets[variable["name"]]
        else:
            assert variable["valueFrom"]["resourceFieldRef"] == {"resource": "limits.cpu"}
            found[variable["name"]] = _CORES
    return found


def test_every_variable_is_a_setting_with_a_valid_value(rendered: list[dict[str, Any]]) -> None:
    for each in kinds(rendered, "Deployment"):
        component = each["metadata"]["labels"]["app.kubernetes.io/component"]
        variables = environment(rendered, component, _SECRETS)
        assert set(variables) - _NOT_SETTINGS <= {name.upper() for name in Settings.model_fields}
        settings = read_settings(
            **{name.lower(): value for name, value in variables.items() if name not in _NOT_SETTINGS}
        )
        (container,) = pod(each)["containers"]
        ports = {
            "api": settings.port,
            "worker": settings.worker_metrics_port,
            "serving": settings.inference_port,
        }
        assert [port["containerPort"] for port in container["ports"]] == [ports[component]]


def test_the_processes_answer_the_probes(settings: Settings, tmp_path: Path) -> None:
    """With the manifest's environment but for the folder, and the databases of the tests."""
    assert settings.mongodb_url is not None
    assert settings.redis_url is not None
    secrets = _SECRETS | {
        "MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
    }
    ports = dict(zip(MODULES, free_ports(3), strict=True))
    values: dict[str, Any] = {name: {"port": port} for name, port in ports.items()}
    documents = objects(values | {"mongodb": {"database": settings.mongodb_db}})
    with ExitStack() as stack:
        for component, module in MODULES.items():
            variables = environment(documents, component, secrets) | {
                "MODEL_SERVICE_HOME": str(tmp_path / component),
                "EXPORT_PREWARM": "false",
            }
            log = stack.enter_context((tmp_path / f"{component}.log").open("wb"))
            process = subprocess.Popen([sys.executable, "-m", module], env=os.environ | variables, stderr=log)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        for component, port in ports.items():
            (container,) = pod(deployment(documents, component))["containers"]
            (named,) = container["ports"]
            assert named["containerPort"] == port
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                request = container[probe]["httpGet"]
                assert request["port"] == named["name"]
                wait_for(partial(answers, port, request["path"]), f"{component}'s {probe}", deadline_s=90)
            assert answers(port, "/metrics")


def answers(port: int, path: str) -> bool:
    try:
        return (
            urllib3.request("GET", f"http://127.0.0.1:{port}{path}", retries=False, timeout=10).status == 200
        )
    except urllib3.exceptions.HTTPError:
        return False


def test_the_backup_keeps_the_newest_archives(settings: Settings, tmp_path: Path) -> None:
    """The command of the CronJob, with its environment and the database of the tests."""
    assert settings.mongodb_url is not None
    documents = objects(
        {"backup": {"enabled": True, "keep": 2}, "mongodb": {"database": settings.mongodb_db}}
    )
    secrets = _SECRETS | {"MONGODB_URL": settings.mongodb_url.get_secret_value()}
    variables = environment(documents, "backup", secrets) | {"MODEL_SERVICE_HOME": str(tmp_path / "data")}
    assert {"API_KEY", "REDIS_URL"} & set(variables) == set()
    (container,) = cron_job(documents)["spec"]["containers"]
    backups = tmp_path / "backups"
    backups.mkdir()
    names = [f"model-service-2026010{day}T023000Z.tar" for day in (1, 2, 3)]
    for name in (*names, "model-service-20260104T023000Z.tar.part", "another.tar"):
        (backups / name).touch()
    env = os.environ | variables | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (backups / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another backup that runs
        backup = subprocess.Popen(container["command"], env=env, cwd=backups)
        wait_for(lambda: psutil.Process(backup.pid).children(), "it to wait for the lock")
        assert (backups / "model-service-20260104T023000Z.tar.part").exists()
    assert backup.wait(120) == 0
    made = {path.name: path.stat().st_size for path in backups.iterdir()}
    assert made.pop(".lock") == 0
    assert made.pop("another.tar") == 0
    assert made.pop(names[-1]) == 0
    ((name, size),) = made.items()
    assert name > names[-1]
    assert size > 0
