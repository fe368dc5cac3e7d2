"""docker-compose.yml: its form, and its processes without an engine."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import jsonschema_rs
import pytest
import urllib3
import yaml

from model_service.client import ModelServiceClient, Unauthorized
from model_service.config import Settings
from tests.containers.composed import STOP_S, Composed, compose, databases
from tests.containers.test_compose_init import compose_init
from tests.test_docs import ROOT
from tests.waiting import wait_for

OURS = ("model-service", "worker", "serving")


def test_it_is_valid_by_the_published_schema() -> None:
    """The compose specification's schema, as check-jsonschema vendors it."""
    path = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    schema = Path(str(metadata.distribution("check-jsonschema").locate_file(path)))
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text()))
    assert [error.message for error in validator.iter_errors(compose())] == []
    assert not validator.is_valid(compose() | {"services": {"model-service": {"prots": []}}})


@pytest.mark.parametrize("profile", ["", "tls"])
@pytest.mark.parametrize("program", ["docker-compose", "podman-compose"])
def test_the_programs_accept_it(program: str, profile: str, tmp_path: Path) -> None:
    needed = (program, "podman") if program == "podman-compose" else (program,)
    if lacking := [name for name in needed if shutil.which(name) is None]:
        pytest.skip(f"{' and '.join(lacking)} is not installed")
    if subprocess.run([program, "config", "--help"], capture_output=True, timeout=60).returncode:
        pytest.skip(f"this version of {program} has no command config")
    done = subprocess.run(
        [program, "--file", str(ROOT / "docker-compose.yml"), "config"],
        cwd=tmp_path,
        env=os.environ | {"COMPOSE_PROFILES": profile},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    accepted = set(yaml.safe_load(done.stdout)["services"])
    services = compose()["services"]
    active = {name for name in services if profile in services[name].get("profiles", [profile])}
    # docker-compose 1.29 shows the services of all profiles.
    assert accepted in (active, set(services)), accepted


def test_it_has_the_names_that_others_rely_on() -> None:
    content = compose()
    assert {"model-service", "mongodb"} <= set(content["services"])
    assert content["networks"]["tensorfleet"]["name"] == "tensorfleet"
    assert content["volumes"]["model_cache"]["name"] == "model_cache"
    registry = content["services"]["model-service"]
    assert "model_cache:/app/cache" in registry["volumes"]
    assert any(port.endswith(":8084:8084") for port in registry["ports"])


def test_the_databases_are_only_reachable_from_the_service() -> None:
    content = compose()
    assert content["networks"]["databases"] == {"internal": True}
    for name in ("mongodb", "redis"):
        assert content["services"][name]["networks"] == ["databases"]
        assert "ports" not in content["services"][name]
    with_access = {name for name, each in content["services"].items() if "databases" in each["networks"]}
    assert with_access == {*OURS, "setup", "mongodb", "redis"}


def test_no_secret_is_in_the_file() -> None:
    for name, service in compose()["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|SECRET|PASSWORD|MONGODB_URL|ADMIN_URL|REDIS_URL", variable):
                assert value.startswith("/run/secrets/"), (name, variable)
                assert Path(value).name in service["secrets"], (name, variable)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", (ROOT / "docker-compose.yml").read_text())


def test_no_container_gains_privileges() -> None:
    for name, service in compose()["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("name", [*OURS, "setup"])
def test_the_containers_are_confined(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert "/tmp" in service["tmpfs"]


def test_every_setting_exists() -> None:
    known = {name.upper() for name in Settings.model_fields} | {"MONGODB_ADMIN_URL"}
    for name in (*OURS, "setup"):
        used = {variable.removesuffix("_FILE") for variable in compose()["services"][name]["environment"]}
        assert used <= known, name


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("composed")
    assert compose_init(folder).returncode == 0
    with databases(folder) as composed:
        yield composed


def test_the_processes_of_the_file(composed: Composed) -> None:
    """The database is set up, all become healthy, one has the key, and SIGTERM ends each in time."""
    before = composed.run("model-service")
    assert before.returncode == os.EX_TEMPFAIL, before.stderr
    assert "is not initiated" in before.stderr
    other = composed.folder / "other_url"
    other.write_text(f"mongodb://127.0.0.1:{composed.ports['mongodb']}/?replicaSet=other")
    wrong = composed.run("setup", MONGODB_URL_FILE=str(other))
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
    assert "the replica set other cannot be initiated: Rejecting initiate" in wrong.stderr
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(composed.run, "setup") for _ in range(2)]
        first = [each.result() for each in both]
    assert [each.returncode for each in first] == [0, 0], [each.stderr for each in first]
    output = [line for each in first for line in each.stdout.splitlines()]
    for line in (
        "initiated the replica set rs0",
        "created the user model-service, readWrite on tensorfleet",
    ):
        assert output.count(line) == 1, output
    again = composed.run("setup")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == "updated the user model-service, readWrite on tensorfleet"
    with composed.running(*OURS) as processes:
        for service in OURS:
            wait_for(
                lambda name=service: composed.is_healthy(name), f"{service} to be healthy", deadline_s=90
            )
        url = f"http://127.0.0.1:{composed.ports['model-service']}"
        key = (composed.folder / "secrets" / "api_key").read_text()
        with ModelServiceClient(url, api_key=key) as client:
            client.register_model({"name": "digits", "algorithm": "convnet"})
        with ModelServiceClient(url) as client, pytest.raises(Unauthorized):
            client.list_models()
        health = urllib3.request("GET", f"{url}/health").json()
        assert health["status"] == "healthy", health
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in processes.items():
            assert process.wait(timeout=STOP_S) == 0, (composed.folder / f"{name}.log").read_text()[-2000:]


def test_a_server_that_does_not_run_is_not_healthy(composed: Composed) -> None:
    assert not composed.is_healthy("model-service")


@pytest.mark.parametrize(
    ("variable", "content", "hint"),
    [
        ("API_KEY_FILE", None, "cannot be read (No such file or directory). Create it"),
        ("API_KEY_FILE", "", "is empty. Write the secret into it"),
        ("API_KEY_FILE", "change-me-change-me", "is a placeholder. Generate a secret"),
        ("SIGNING_SECRET_FILE", "your-secret-key-" * 4, "is a placeholder. Generate a secret"),
        ("MONGODB_URL_FILE", None, "cannot be read"),
        ("REDIS_URL_FILE", None, "cannot be read"),
    ],
)
def test_without_its_secret_no_process_starts(
    composed: Composed, tmp_path: Path, variable: str, content: str | None, hint: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    for service in OURS:
        ended = composed.run(service, **{variable: str(file)})
        assert ended.returncode == 2, (service, ended.stderr)
        assert len(ended.stderr.splitlines()) == 1, (service, ended.stderr)
        assert hint in ended.stderr


@pytest.mark.parametrize(
    ("variable", "url", "hint"),
    [
        (
            "MONGODB_ADMIN_URL_FILE",
            "mongodb://root:wrong@127.0.0.1:{port}/?authSource=admin",
            "rejects the admin",
        ),
        ("MONGODB_ADMIN_URL_FILE", "postgres://root@127.0.0.1", "is not the address of a MongoDB"),
        ("MONGODB_URL_FILE", "mongodb://model-service:pw@127.0.0.1:{port}/", "must name the replica set"),
        (
            "MONGODB_URL_FILE",
            "mongodb://user:pw@127.0.0.1:{port}/?replicaSet=rs0&authSource=local",
            "the user user cannot be created or changed: ",
        ),
    ],
)
def test_a_wrong_url_of_the_set_up(
    composed: Composed, tmp_path: Path, variable: str, url: str, hint: str
) -> None:
    (tmp_path / "url").write_text(url.format(port=composed.ports["mongodb"]))
    ended = composed.run("setup", **{variable: str(tmp_path / "url")})
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert hint in ended.stderr
    assert "wrong" not in ended.stderr
