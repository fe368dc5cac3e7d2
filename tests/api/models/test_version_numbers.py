"""The number of a version is given once, whatever becomes of the version."""

import io
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.api.http.context import EXTENSION
from model_service.services import Services
from model_service.services.archive.archive import Scope
from model_service.services.archive.reader import Conflicts
from model_service.storage.common.db import Database
from model_service.storage.migrations.m0003_version_numbers import MIGRATION
from tests.api.deployed import URL, deploy, exported
from tests.factories import model_fields, new_model

MODELS, DATASETS = "/api/v1/models", "/api/v1/datasets"


def made(http: FlaskClient, collection: str, **fields: Any) -> Any:
    body = new_model(**fields) if collection == MODELS else {"name": "digits"} | fields
    return http.post(collection, json=body)


def id_of(answer: Any) -> str:
    return str(answer.json.get("model_id") or answer.json["id"])


@pytest.mark.parametrize("collection", [MODELS, DATASETS])
@pytest.mark.parametrize("purge", ["", "?purge=true"])
def test_a_removed_number_is_never_given_again(http: FlaskClient, collection: str, purge: str) -> None:
    if collection == DATASETS and purge:
        pytest.skip("a dataset is always removed for good")
    first = made(http, collection)
    assert http.delete(f"{collection}/{id_of(first)}{purge}").status_code == 200
    assert made(http, collection).json["version"] == "v1.1"
    for spelling in ("v1.0", "v1"):
        refused = made(http, collection, version=spelling)
        assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")
        assert "not used twice" in refused.json["error"]["message"]
    assert made(http, collection, name="other", version="v1.0").status_code == 201


def test_a_purged_major_version_and_the_versions_made_from_another_go_on(http: FlaskClient) -> None:
    base = id_of(made(http, MODELS))
    second = http.post(f"{MODELS}/{base}/versions", json={}).json["model_id"]
    breaking = id_of(made(http, MODELS, breaking_changes=True))
    for model_id in (second, breaking):
        http.delete(f"{MODELS}/{model_id}?purge=true")
    assert http.post(f"{MODELS}/{base}/versions", json={}).json["version"] == "v1.2"
    assert made(http, MODELS).json["version"] == "v2.1"
    assert http.post(f"{MODELS}/{base}/versions", json={"version": "v2.0"}).status_code == 409


def test_a_restored_version_has_its_own_number_and_can_be_removed_again(http: FlaskClient) -> None:
    model_id = id_of(made(http, MODELS))
    for _ in range(2):
        http.delete(f"{MODELS}/{model_id}")
        assert http.post(f"{MODELS}/{model_id}/restore").json["version"] == "v1.0"
    http.delete(f"{MODELS}/{model_id}?purge=true")
    assert made(http, MODELS, version="v1.0").status_code == 409


def test_many_at_once_never_get_a_number_twice(app: Flask) -> None:
    """Some are purged while others are registered."""
    services: Services = app.extensions[EXTENSION].services
    numbers: list[str] = []

    def register_and_purge() -> None:
        for turn in range(6):
            model = services.models.register(model_fields())
            numbers.append(model["version"])
            if turn % 2:
                services.models.delete(str(model["_id"]), purge=True)

    threads = [threading.Thread(target=register_and_purge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(numbers) == len(set(numbers)) == 24


def test_a_deployment_of_a_purged_version_shows_it_and_no_other_gets_its_number(
    http: FlaskClient, database: Database
) -> None:
    job_id = exported(http, database)
    deployment = deploy(http, export_job_id=job_id)
    model_id = database.export_jobs.find_one({"_id": job_id})["model_id"]  # type: ignore[index]
    http.delete(f"{MODELS}/{model_id}?purge=true")
    assert made(http, MODELS).json["version"] == "v1.1"
    shown: Any = http.get(f"{URL}/{deployment['id']}").json
    assert (shown["model_name"], shown["model_version"]) == ("digits", "v1.0")


def test_an_import_does_not_give_a_number_again(app: Flask, http: FlaskClient, database: Database) -> None:
    archive = app.extensions[EXTENSION].services.archive
    model_id = id_of(made(http, MODELS))
    content = b"".join(archive.export(Scope.REGISTRY))
    http.delete(f"{MODELS}/{model_id}?purge=true")
    # The same version may come back: its number is its own.
    imported = archive.import_registry(io.BytesIO(content), Conflicts.FAIL)
    assert imported.inserted["models"] == 1
    http.delete(f"{MODELS}/{model_id}?purge=true")
    # Another one may not have it.
    database.version_numbers.update_many({}, {"$set": {"subject_id": "another"}})
    imported = archive.import_registry(io.BytesIO(content), Conflicts.SKIP)
    assert (imported.inserted["models"], imported.conflicts) == (0, ["models digits v1.0"])


def test_a_backup_keeps_the_numbers(app: Flask, http: FlaskClient, database: Database) -> None:
    archive = app.extensions[EXTENSION].services.archive
    http.delete(f"{MODELS}/{id_of(made(http, MODELS))}?purge=true")
    content = b"".join(archive.export(Scope.EVERYTHING))
    for name in database.collection_names():
        database.collection(name).delete_many({})
    archive.restore(io.BytesIO(content))
    assert made(http, MODELS).json["version"] == "v1.1"


def test_older_data_tells_the_numbers_that_it_knows(http: FlaskClient, database: Database) -> None:
    """In the trash, in the audit log, in the exports: of versions removed before numbers were noted."""
    _, deleted, purged = (id_of(made(http, MODELS)) for _ in range(3))
    http.delete(f"{MODELS}/{deleted}")
    http.delete(f"{MODELS}/{purged}?purge=true")
    dataset = id_of(made(http, DATASETS))
    http.delete(f"{DATASETS}/{dataset}")
    database.export_jobs.insert_one(
        {"_id": "old", "model_id": "gone", "model_name": "digits", "model_version": "v2.5"}
    )
    database.version_numbers.delete_many({})
    for _ in range(2):
        assert MIGRATION.derive is not None
        MIGRATION.derive(database)
    numbers = sorted((n["kind"], n["version_order"]) for n in database.version_numbers.find())
    assert numbers == [
        ("dataset", 1_000_000),
        ("model", 1_000_001),
        ("model", 1_000_002),
        ("model", 2_000_005),
    ]
    assert made(http, MODELS).json["version"] == "v2.6"
