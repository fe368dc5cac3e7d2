"""Edge packages and containers, from the request to the download, with a real worker."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from model_service.config import Settings
from model_service.jobs.build_package import build_package
from model_service.jobs.context import Context
from model_service.jobs.queue import Queue
from model_service.jobs.reconcile import INTERVAL_S, Reconciler
from model_service.storage.common.db import Database
from model_service.storage.common.secrets import Secrets
from tests.api.deployed import URL, events, exported
from tests.api.finished import wrong_references
from tests.jobs.conftest import context
from tests.jobs.test_full_disk import small_workspace
from tests.processes import running, worker
from tests.serving.conftest import package_zip, rewritten
from tests.waiting import wait_for

__all__ = ["context", "package_zip", "small_workspace"]

EDGE: dict[str, Any] = {"deployment_type": "edge_package", "target_platform": "linux-arm64"}
CONTAINER: dict[str, Any] = {"deployment_type": "container", "image_name": "team/digits", "image_tag": "v1"}


@pytest.fixture
def verified(http: FlaskClient, database: Database, package_zip: bytes) -> str:
    return exported(http, database, package=package_zip)


def created(http: FlaskClient, job_id: str, **fields: Any) -> str:
    answer = http.post(URL, json={"name": "mobile", "export_job_id": job_id, **fields})
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return str(answer.json["id"])


def read(http: FlaskClient, deployment_id: str) -> dict[str, Any]:
    answer = http.get(f"{URL}/{deployment_id}")
    assert answer.json is not None
    return dict(answer.json)


def names(http: FlaskClient, deployment: dict[str, Any]) -> set[str]:
    """The files of the package behind the signed URL."""
    url = urlsplit(deployment["download_url"])
    answer = http.get(f"{url.path}?{url.query}")
    assert answer.status_code == 200, answer.text
    assert f"sha256:{answer.headers['ETag'].strip(chr(34))}" == deployment["package"]["checksum"]
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def test_a_worker_builds_the_packages(
    settings: Settings, http: FlaskClient, database: Database, verified: str
) -> None:
    edge, container = created(http, verified, **EDGE), created(http, verified, **CONTAINER)
    with worker(settings):
        for deployment_id in (edge, container):
            wait_for(lambda i=deployment_id: read(http, i)["status"] == "active", "the package")
        board, image = read(http, edge), read(http, container)
        assert {"model.onnx", "labels.txt", "metadata.json", "README.md"} <= names(http, board)
        assert {"Dockerfile", "build.sh", "input.json", "model.onnx"} <= names(http, image)
        assert board["deployment_config"]["package_url"] == board["download_url"]
        assert image["deployment_config"]["dockerfile_url"] == image["download_url"]
        assert events(http, edge) == ["created", "deploying", "deployed"]
        http.patch(f"{URL}/{edge}", json={"config": {"expires_in_s": 60}})
        wait_for(lambda: read(http, edge)["live_revision"] == 2, "the second revision")
    logs: Any = http.get(f"{URL}/{edge}/logs").json
    assert {entry["event"] for entry in logs["logs"]} == {"package_building", "package_built"}
    assert wrong_references(database) == []
    for deployment_id in (edge, container):
        assert http.delete(f"{URL}/{deployment_id}").status_code == 200
    assert wrong_references(database) == []
    assert database.package_builds.count_documents({}) == 0


def test_the_build_of_a_killed_worker_is_done_by_another(
    settings: Settings, http: FlaskClient, database: Database, verified: str
) -> None:
    with running("model_service.jobs", settings, export_prewarm=False, job_lease_s=1) as first:
        deployment_id = created(http, verified, **CONTAINER)
        wait_for(
            lambda: database.package_builds.find_one({"_id": deployment_id, "status": "running"}), "the build"
        )
        first.kill()
        first.wait()
    assert read(http, deployment_id)["status"] in ("pending", "deploying")
    with worker(settings):
        wait_for(lambda: read(http, deployment_id)["status"] == "active", "the other worker", deadline_s=150)
    assert "Dockerfile" in names(http, read(http, deployment_id))
    assert wrong_references(database) == []


def test_a_request_that_no_target_heard_of_is_found_by_the_reconciler(
    context: Context, http: FlaskClient, database: Database, verified: str
) -> None:
    """The API died between storing the deployment and calling its target."""
    broken, built, offered = (created(http, verified, **CONTAINER) for _ in range(3))
    database.package_builds.delete_many({})
    for deployment_id, kind in ((broken, "of a newer version"), (offered, "download")):
        database.deployments.update_one({"_id": deployment_id}, {"$set": {"deployment_type": kind}})
    Reconciler(context, Queue(context.settings, Secrets(database))).reconcile()
    assert read(http, offered)["status"] == "active"
    assert [build["_id"] for build in database.package_builds.find()] == [built]
    assert [each["_id"] for each in context.stores.package_builds.missing()] == [broken]
    build_package(built)
    assert read(http, built)["status"] == "active"


def test_a_build_that_loses_its_workers_fails_its_deployment(
    context: Context, http: FlaskClient, verified: str
) -> None:
    deployment_id = created(http, verified, **CONTAINER)
    builds, most = context.stores.package_builds, context.settings.job_max_attempts
    expired = {"worker": "killed", "lease_s": -context.settings.job_lease_s - INTERVAL_S - 1}
    for _ in range(most):
        assert builds.claim(deployment_id, **expired, max_attempts=most)  # type: ignore[arg-type]
        context.stores.database.package_builds.update_one(
            {"_id": deployment_id}, {"$set": {"progress_step": "build"}}
        )
    Reconciler(context, Queue(context.settings, Secrets(context.stores.database))).reconcile()
    failed = read(http, deployment_id)
    assert failed["status"] == "failed"
    assert "lost" in failed["error_message"]
    again: Any = http.post(f"{URL}/{deployment_id}/activate").json
    assert again["status"] == "deploying"
    build_package(deployment_id)
    assert read(http, deployment_id)["status"] == "active"
    assert list(context.stores.integrity.wrong_holdings()) == []


def test_a_deactivated_deployment_builds_nothing(
    context: Context, http: FlaskClient, database: Database, verified: str
) -> None:
    deployment_id = created(http, verified, **CONTAINER)
    assert http.post(f"{URL}/{deployment_id}/deactivate").status_code == 200
    assert database.package_builds.count_documents({}) == 0
    build_package(deployment_id)
    http.post(f"{URL}/{deployment_id}/activate")
    build_package(deployment_id)
    before = read(http, deployment_id)
    http.post(f"{URL}/{deployment_id}/deactivate")
    after: Any = http.post(f"{URL}/{deployment_id}/activate").json
    assert (after["status"], after["package"]) == ("active", before["package"])  # it is built already
    assert wrong_references(database) == []


def test_a_package_that_cannot_be_built_fails_with_the_reason(
    context: Context, http: FlaskClient, database: Database
) -> None:
    deployment_id = created(http, exported(http, database), **EDGE)
    build_package(deployment_id)
    failed = read(http, deployment_id)
    assert failed["status"] == "failed"
    assert "Export the model again" in failed["error_message"]
    assert events(http, deployment_id)[-1] == "failed"
    assert wrong_references(database) == []


def test_a_full_disk_is_named(
    small_workspace: Context,
    http: FlaskClient,
    database: Database,
    package_zip: bytes,
    tmp_path: Path,
) -> None:
    # The workspace has 20 MB.
    large = rewritten(package_zip, "labels.txt", os.urandom(12_000_000), tmp_path)
    deployment_id = created(http, exported(http, database, package=large), **CONTAINER)
    build_package(deployment_id)
    assert read(http, deployment_id)["status"] == "deploying"  # it is tried again
    build_package(deployment_id)
    failed = read(http, deployment_id)
    assert (failed["status"], failed["live_revision"]) == ("failed", None)
    assert "disk was full" in failed["error_message"]
    assert wrong_references(database) == []
