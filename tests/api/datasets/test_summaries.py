"""When a dataset's file waits for an inspection, and how its summary is shown."""

import io
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from model_service.services.archive.archive import ArchiveService, Scope
from model_service.services.archive.reader import Conflicts
from model_service.states import InspectionStatus
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.inspected import DATASETS, FOUND, arrays, inspect, uploaded


def summary(http: FlaskClient, dataset_id: str) -> Any:
    return http.get(f"{DATASETS}/{dataset_id}").json["summary"]  # type: ignore[index]


def test_a_file_in_a_known_format_is_inspected_once(http: FlaskClient, database: Database) -> None:
    dataset_id = uploaded(http)
    checksum = http.get(f"{DATASETS}/{dataset_id}").json["file_metadata"]["checksum"]  # type: ignore[index]
    assert summary(http, dataset_id)["status"] == "pending"
    assert summary(http, dataset_id)["checksum"] == checksum
    inspections = build_stores(database).inspections
    assert inspections.waiting() == [dataset_id]
    inspect(database, dataset_id)
    found = summary(http, dataset_id)
    assert (found["status"], found["checksum"], found["error"]) == ("ready", checksum, None)
    assert {name: found[name] for name in FOUND} == FOUND
    assert inspections.waiting() == []
    assert inspections.begin(dataset_id, 60) is None
    listed = http.get(DATASETS).json["datasets"]  # type: ignore[index]
    assert [each["summary"]["status"] for each in listed] == ["ready"]


def test_a_dataset_without_a_known_format_or_a_file_has_no_summary(http: FlaskClient) -> None:
    empty = http.post(DATASETS, json={"name": "empty", "format": "npz"}).json
    assert empty["summary"] is None  # type: ignore[index]
    assert summary(http, uploaded(http, format=None)) is None
    assert summary(http, uploaded(http, format="other")) is None


def test_what_describes_the_file_has_it_inspected_again(http: FlaskClient, database: Database) -> None:
    dataset_id = uploaded(http)
    url = f"{DATASETS}/{dataset_id}"
    for changes in ({"schema": {"label": "y"}}, {"task_type": "regression"}, {"format": "csv"}):
        inspect(database, dataset_id)
        assert http.patch(url, json={"description": str(changes)}).json["summary"]["status"] == "ready"  # type: ignore[index]
        assert http.patch(url, json=changes).json["summary"]["status"] == "pending"  # type: ignore[index]
        assert summary(http, dataset_id)["status"] == "pending"
    inspect(database, dataset_id)
    assert http.patch(url, json={"format": None}).json["summary"] is None  # type: ignore[index]
    assert build_stores(database).inspections.waiting() == []


def test_the_result_on_a_file_that_was_replaced_meanwhile_is_not_stored(
    http: FlaskClient, database: Database
) -> None:
    dataset_id = uploaded(http)
    inspections = build_stores(database).inspections
    begun = inspections.begin(dataset_id, 60)
    assert begun is not None
    url = f"{DATASETS}/{dataset_id}/upload?replace=true"
    assert http.post(url, data=arrays(9), headers={"X-Filename": "d.npz"}).status_code == 201
    assert inspections.end(begun, InspectionStatus.READY, FOUND) is False
    assert summary(http, dataset_id)["status"] == "pending"
    assert inspections.waiting() == [dataset_id]


def test_an_attempt_whose_lease_expired_stores_nothing_once_another_began(
    http: FlaskClient, database: Database
) -> None:
    dataset_id = uploaded(http)
    inspections = build_stores(database).inspections
    late = inspections.begin(dataset_id, -1)
    second = inspections.begin(dataset_id, 60)
    assert late is not None
    assert second is not None
    inspections.put_back(late)
    assert inspections.begin(dataset_id, 60) is None  # the second still has its lease
    assert inspections.end(late, InspectionStatus.FAILED, {"error": "why"}) is False
    assert inspections.end(second, InspectionStatus.READY, FOUND)
    assert summary(http, dataset_id)["status"] == "ready"


def test_a_removed_file_has_no_summary(http: FlaskClient, database: Database) -> None:
    dataset_id = uploaded(http)
    inspect(database, dataset_id)
    assert http.delete(f"{DATASETS}/{dataset_id}/files/d.npz").status_code == 200
    assert summary(http, dataset_id) is None


def test_the_attempt_of_a_worker_that_stops_does_not_count(http: FlaskClient, database: Database) -> None:
    dataset_id = uploaded(http)
    inspections = build_stores(database).inspections
    for _ in range(2):
        begun = inspections.begin(dataset_id, 60)
        assert begun is not None
        assert begun.get("inspection", {}).get("attempts") == 1  # type: ignore[union-attr]
        inspections.put_back(begun)


def test_a_summary_from_another_instance_is_not_trusted(
    http: FlaskClient, database: Database, tmp_path: Path
) -> None:
    dataset_id = uploaded(http)
    inspect(database, dataset_id)
    archive = ArchiveService(build_stores(database), tmp_path)
    content = b"".join(archive.export(Scope.REGISTRY))
    for name in ("datasets", "audit"):
        database.collection(name).delete_many({})
    archive.import_registry(io.BytesIO(content), Conflicts.SKIP)
    assert summary(http, dataset_id)["status"] == "pending"
