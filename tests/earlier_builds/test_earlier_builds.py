"""Data folders and archives of earlier builds under today's code.

Each folder holds MongoDB's own files, as the build's ``model-service up`` left them after an orderly stop;
only the journal, which is empty then, and logs are left out. Each archive was written by the build's own
``model-service backup``; the first build has no such command. See ``make`` for how they are made.
"""

import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from model_service.services.operations.integrity import IntegrityService
from model_service.storage.common.db import Database
from model_service.storage.migrations import COLLECTIONS, LATEST
from model_service.storage.stores import build_stores
from tests.e2e.conftest import free_ports
from tests.earlier_builds.conftest import BUILDS, WITH_ARCHIVE, Facts, archive_of, data_folder, facts_of
from tests.storage.migrations.paged_migration import environment, paged_migration

DEADLINE_S = 60


def read(http: FlaskClient, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text[:500]}"
    return answer.json


def sha256_of(http: FlaskClient, path: str) -> str:
    answer = http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text[:500]}"
    return hashlib.sha256(answer.data).hexdigest()


def check(http: FlaskClient, facts: Facts) -> None:
    """Everything that the build stored is listed, readable, and byte for byte the same."""
    listed = {model["id"] for model in read(http, "/api/v1/models")["models"]}
    assert listed == set(facts["models"])
    for model_id, stored in facts["models"].items():
        model = read(http, f"/api/v1/models/{model_id}")
        assert (model["name"], model["version"]) == (stored["name"], stored["version"])
        read(http, f"/api/v1/models/{model_id}/files")
        read(http, f"/api/v1/models/{model_id}/lineage")
        if stored["sha256"] is not None:
            assert sha256_of(http, f"/api/v1/models/{model_id}/download") == stored["sha256"]
            read(http, f"/api/v1/models/{model_id}/info")
    found = read(http, "/api/v1/models?q=digits&sort=-metrics.accuracy")["models"]
    assert [model["version"] for model in found] == ["v1.1", "v1.0"]
    assert read(http, "/api/v1/statistics")["total_models"] == len(facts["models"])
    for dataset_id, files in facts["datasets"].items():
        for path, digest in files.items():
            assert sha256_of(http, f"/api/v1/datasets/{dataset_id}/files/{path}") == digest
    trash = read(http, "/api/v1/models/deleted")["models"]
    assert {model["id"] for model in trash} == set(facts["trash"])
    if "training_job" in facts:
        assert read(http, f"/api/v1/training/{facts['training_job']}")["status"] == "running"
        assert [user["name"] for user in read(http, "/api/v1/users")["users"]] == ["ada"]
        assert [key["name"] for key in read(http, "/api/v1/keys")["keys"]] == ["ci"]
    check_exports(http, facts)
    check_deployment(http, facts)


def check_exports(http: FlaskClient, facts: Facts) -> None:
    completed, failed = facts["export"]["job_id"], facts["failed_export"]
    jobs = {job["id"]: job["status"] for job in read(http, "/api/v1/export/jobs")["jobs"]}
    assert jobs == {completed: "completed", failed: "failed"}
    assert read(http, f"/api/v1/export/jobs/{completed}")["fidelity"]["verdict"] == "verified"
    assert sha256_of(http, f"/api/v1/export/jobs/{completed}/download") == facts["export"]["sha256"]
    assert read(http, f"/api/v1/export/jobs/{failed}")["error_code"]
    read(http, f"/api/v1/models/{facts['export']['model_id']}/exports")


def check_deployment(http: FlaskClient, facts: Facts) -> None:
    deployment_id = facts["deployment"]["deployment_id"]
    (listed,) = read(http, "/api/v1/deployments")["deployments"]
    assert listed["id"] == deployment_id
    deployment = read(http, f"/api/v1/deployments/{deployment_id}")
    assert (deployment["status"], deployment["model_name"]) == ("active", "scale")
    for part in ("history", "logs", "keys", "usage"):
        read(http, f"/api/v1/deployments/{deployment_id}/{part}")


def check_changes(http: FlaskClient, facts: Facts) -> None:
    """What is stored can be changed as if this version had stored it."""
    model_id, deployment_id = facts["export"]["model_id"], facts["deployment"]["deployment_id"]
    changed = http.patch(f"/api/v1/models/{model_id}", json={"tags": ["migrated"]})
    assert changed.status_code == 200, changed.text
    version = http.post("/api/v1/models", json={"name": "digits", "algorithm": "convnet"})
    assert version.status_code == 201, version.text
    assert version.json["version"] == "v1.2"
    retried = http.post(f"/api/v1/export/{facts['failed_export']}/retry")
    assert retried.status_code == 202, retried.text
    default = http.post(f"/api/v1/export/{facts['export']['job_id']}/set-default")
    assert default.status_code == 200, default.text
    scaled = http.patch(f"/api/v1/deployments/{deployment_id}", json={"description": "migrated"})
    assert scaled.status_code == 200, scaled.text
    key = http.post(f"/api/v1/deployments/{deployment_id}/keys", json={"name": "second"})
    assert key.status_code == 201, key.text
    for deleted in facts["trash"]:
        restored = http.post(f"/api/v1/models/{deleted}/restore")
        assert restored.status_code == 200, restored.text


def problems(settings: Settings) -> list[str]:
    """What ``model-service verify`` says."""
    database = Database(settings)
    try:
        service = IntegrityService(build_stores(database))
        return [str(problem) for problem in service.verify()]
    finally:
        database.close()


def ask(settings: Settings, facts: Facts, port: int) -> Any:
    """The answer of the build's deployment, with the key that the build gave out."""
    deployment = facts["deployment"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/infer/{deployment['deployment_id']}",
        json.dumps({"inputs": deployment["inputs"]}).encode(),
        {"Authorization": f"Bearer {deployment['api_key']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


class InferenceServer:
    """``python -m model_service.serving`` on the data."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        (self._port,) = free_ports(1)
        command = [sys.executable, "-m", "model_service.serving"]
        env = environment(settings) | {"INFERENCE_PORT": str(self._port)}
        self._process = subprocess.Popen(command, env=env)

    def __enter__(self) -> "InferenceServer":
        self.wait_until(lambda: self._get("/health/ready"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _get(self, path: str) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if value := condition():
                    return value
            except OSError:
                assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def outputs(self, facts: Facts) -> Any:
        return ask(self._settings, facts, self._port)["outputs"]


@pytest.mark.parametrize("build", BUILDS)
def test_the_data_folder_of_an_earlier_build_opens(build: str, opened: Callable[[str], Settings]) -> None:
    facts, settings = facts_of(build), opened(build)
    http = create_app(settings).test_client()
    check(http, facts)
    assert problems(settings) == []
    database = Database(settings)
    (schema,) = database.schema.find()
    assert (schema["schema_version"], schema["collections"]) == (LATEST, COLLECTIONS)
    database.close()
    with InferenceServer(settings) as server:
        assert server.outputs(facts) == facts["deployment"]["answer"]["outputs"]
    check_changes(http, facts)
    assert problems(settings) == []


@pytest.mark.parametrize("build", WITH_ARCHIVE)
def test_the_archive_of_an_earlier_build_is_restored_into_a_running_service(
    build: str, settings: Settings, tmp_path: Path
) -> None:
    facts = facts_of(build)
    archive = tmp_path / "backup.tar"
    archive.write_bytes(archive_of(build))
    http = create_app(settings).test_client()
    assert read(http, "/api/v1/models")["models"] == []
    assert read(http, "/api/v1/statistics")["total_models"] == 0
    assert http.get(f"/api/v1/deployments/{facts['deployment']['deployment_id']}").status_code == 404
    with InferenceServer(settings) as server:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            server.outputs(facts)
        command = [sys.executable, "-m", "model_service.cli", "restore", str(archive)]
        subprocess.run(command, env=environment(settings), check=True)
        check(http, facts)
        right = facts["deployment"]["answer"]["outputs"]
        assert server.wait_until(lambda: server.outputs(facts) == right)
    assert problems(settings) == []
    check_changes(http, facts)
    assert problems(settings) == []


def test_killed_ten_times_in_the_middle_of_the_migration_it_ends_right(tmp_path: Path) -> None:
    """The first build's data, a document a page: each kill is inside of the reads and writes of one."""
    build, steps = "55ee78b", "model_service.storage.migrations:MIGRATIONS"
    (tmp_path / "killed").mkdir()
    (tmp_path / "not killed").mkdir()
    with data_folder(build, tmp_path / "killed") as settings:
        # The data are eight pages. A kill that comes late may find its page complete, so only seven do.
        for after_ms in (0, 0, 0, 3, 6, 9, 12, 15, 18, 21):
            with paged_migration(settings, steps, page=1) as process:
                process.kill_in_the_next_page(after_s=after_ms / 1000)
        with paged_migration(settings, steps, page=1) as process:
            assert process.run_to_the_end() == 0
        after_kills = documents(settings)
        check(create_app(settings).test_client(), facts_of(build))
        assert problems(settings) == []
    with (
        data_folder(build, tmp_path / "not killed") as settings,
        paged_migration(settings, steps, page=500) as process,
    ):
        assert process.run_to_the_end() == 0
        assert after_kills == documents(settings)


def documents(settings: Settings) -> dict[str, Any]:
    """Every document of every collection but the bytes and what says who migrated when."""
    database = Database(settings)
    names = [
        name
        for name in database.collection_names()
        if name not in ("schema", "leases") and not name.endswith(".chunks")
    ]
    found = {name: list(database.collection(name).find({}, sort=[("_id", 1)])) for name in names}
    database.close()
    return {name: each for name, each in found.items() if each}
