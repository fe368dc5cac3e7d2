"""Stored evaluations: the newest one, the blobs that they hold, and their lease."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from model_service.actor import actor
from model_service.services.archive.archive import ArchiveService, Scope
from model_service.storage.blobs.blobs import Blob
from model_service.storage.blobs.references import held_blobs
from model_service.storage.common.db import Database, now
from model_service.storage.evaluations.documents import Evaluation, new_evaluation
from model_service.storage.operations.document_check import check_document
from model_service.storage.stores import Stores, build_stores
from tests.services.documents import model_document

MODEL, OTHER_MODEL, DATASET, OTHER_DATASET = (ObjectId() for _ in range(4))


BOTH = [None, "export"]  # the version and its export


@pytest.fixture
def stores(database: Database) -> Stores:
    return build_stores(database)


def blob(stores: Stores, content: bytes) -> dict[str, Any]:
    written = stores.blobs.write([content], limit_bytes=1 << 20)
    stored: Blob = stores.blobs.publish(written, lambda stored, session: stored)
    return dict(stored.reference())


def evaluation(stores: Stores, **fields: Any) -> Evaluation:
    """A stored evaluation; ``minutes`` is its age, a value in ``accuracy`` completes it."""
    minutes, accuracy = fields.pop("minutes", 0), fields.pop("accuracy", None)
    at = now() - timedelta(minutes=minutes)
    source, data = blob(stores, b"source"), blob(stores, b"data")
    request: Any = {
        "namespace": "",
        "model_id": MODEL,
        "model_name": "digits",
        "model_version": "v1.0",
        "framework": None,
        "task_type": None,
        "export_job_id": None,
        "source_config": {},
        "source": {**source, "filename": "m.onnx"},
        "source_checksum": source["checksum"],
        "datasets": [
            {
                **data,
                "role": "test",
                "dataset_id": DATASET,
                "name": "digits",
                "version": "v1.0",
                "filename": "d.npz",
                "format": "npz",
                "schema": {},
                "task_type": None,
            }
        ],
        "dataset_id": DATASET,
        "dataset_name": "digits",
        "dataset_version": "v1.0",
        "dataset_checksum": data["checksum"],
        "metrics": None,
        "samples": None,
        "seed": 0,
        **fields,
    }
    document = new_evaluation(request, actor().name, at)
    if accuracy is not None:
        document["status"] = "completed"
        document["results"] = {"accuracy": {"value": accuracy, "interval": None}}
        document["completed_at"] = at
    stores.database.transaction(lambda session: stores.evaluations.insert(document, session))
    return document


def accuracies(found: list[Evaluation]) -> set[float]:
    return {each["results"]["accuracy"]["value"] for each in found if each["results"]}


def test_a_stored_evaluation_has_the_form_of_its_type(stores: Stores) -> None:
    check_document("evaluations", evaluation(stores))
    check_document("evaluations", evaluation(stores, accuracy=0.5))


def test_the_completed_ones_of_a_version_come_newest_first(stores: Stores) -> None:
    evaluation(stores, minutes=3, accuracy=0.3)
    evaluation(stores, minutes=2, accuracy=0.9)
    evaluation(stores, minutes=0)
    evaluation(stores, accuracy=0.1, dataset_id=OTHER_DATASET)
    evaluation(stores, accuracy=0.2, model_id=OTHER_MODEL)
    evaluation(stores, minutes=1, accuracy=0.8, export_job_id="export")
    found = stores.evaluations.completed_of(MODEL, [DATASET], BOTH)
    assert [list(accuracies([each])) for each in found] == [[0.8], [0.9], [0.3]]
    assert [each["export_job_id"] for each in found] == ["export", None, None]
    of_both = stores.evaluations.completed_of(MODEL, [DATASET, OTHER_DATASET], BOTH)
    assert accuracies(of_both) == {0.8, 0.9, 0.3, 0.1}
    assert accuracies(stores.evaluations.completed_of(OTHER_MODEL, [DATASET], BOTH)) == {0.2}
    assert stores.evaluations.completed_of(OTHER_MODEL, [OTHER_DATASET], BOTH) == []
    assert stores.evaluations.completed_of(MODEL, [], BOTH) == []
    of_export = stores.evaluations.completed_of(MODEL, [DATASET], ["export"])
    assert accuracies(of_export) == {0.8}


def test_a_model_shows_the_last_evaluation_of_its_own_files_on_each_dataset(stores: Stores) -> None:
    stores.database.models.insert_one({**model_document(), "_id": MODEL})
    evaluation(stores, minutes=3, accuracy=0.3)
    newest = evaluation(stores, minutes=2, accuracy=0.9)
    evaluation(stores, accuracy=0.1, dataset_id=OTHER_DATASET)
    evaluation(stores, accuracy=0.2, model_id=OTHER_MODEL)
    evaluation(stores, accuracy=0.8, export_job_id="export")

    def shown() -> list[float]:
        for dataset_id in (DATASET, OTHER_DATASET):
            stores.database.transaction(
                lambda session, dataset_id=dataset_id: stores.evaluations.show_latest(
                    MODEL, dataset_id, session
                )
            )
        model = stores.models.get(MODEL)
        assert model is not None
        assert model["revision"] == 1
        check_document("models", model)
        return [each["metrics"]["accuracy"] for each in model.get("evaluations", [])]

    assert shown() == [0.1, 0.9]
    assert shown() == [0.1, 0.9]
    stores.database.transaction(lambda session: stores.evaluations.remove(newest["_id"], session))
    assert shown() == [0.1, 0.3]


def test_only_ended_evaluations_are_removed(stores: Stores) -> None:
    waiting, ended = evaluation(stores), evaluation(stores, accuracy=0.5)

    def remove(evaluation_id: str) -> Evaluation | None:
        return stores.database.transaction(lambda session: stores.evaluations.remove(evaluation_id, session))

    assert remove(waiting["_id"]) is None
    assert remove(ended["_id"]) is not None
    assert stores.evaluations.get(ended["_id"]) is None
    assert stores.evaluations.get(waiting["_id"]) is not None


def test_an_evaluation_holds_its_source_and_its_data_until_it_ends(stores: Stores) -> None:
    assert {held["count"] for held in held_blobs(stores.database, None)} == set()
    first = evaluation(stores)
    evaluation(stores, accuracy=0.5)
    held = {found["_id"]: found["count"] for found in held_blobs(stores.database, None)}
    assert held == {first["source"]["file_id"]: 1, first["datasets"][0]["file_id"]: 1}


def test_a_lost_worker_changes_nothing_after_its_lease(stores: Stores) -> None:
    job_id = evaluation(stores)["_id"]
    claim = stores.evaluations.claim
    assert stores.evaluation_turns.next_in_turn(3) == job_id
    first = claim(job_id, worker="one", lease_s=-1, max_attempts=3)
    second = claim(job_id, worker="two", lease_s=60, max_attempts=3)
    assert first is not None
    assert second is not None
    results = {"results": {"accuracy": {"value": 0.5, "interval": None}}}

    def complete(token: str) -> bool:
        return stores.database.transaction(
            lambda session: stores.evaluations.complete(job_id, token, results, session)
        )

    assert complete(first["lease"]["token"]) is False
    assert complete(second["lease"]["token"]) is True
    assert stores.evaluation_turns.waiting(3) == []


def test_a_backup_has_the_evaluations(stores: Stores, tmp_path: Path) -> None:
    """A waiting evaluation holds its blobs in the restored database too."""
    waiting, ended = evaluation(stores), evaluation(stores, accuracy=0.5)
    archive = ArchiveService(stores, tmp_path)
    content = b"".join(archive.export(Scope.EVERYTHING))
    for name in stores.database.collection_names():
        stores.database.collection(name).delete_many({})
    restored = archive.restore(io.BytesIO(content))
    assert restored.inserted["evaluations"] == 2
    held = {found["count"] for found in held_blobs(stores.database, None)}
    assert held == {1}
    kept = stores.evaluations.get(waiting["_id"])
    assert kept is not None
    assert b"".join(stores.blobs.read(kept["datasets"][0]["file_id"], 0, 4)) == b"data"
    assert stores.evaluations.get(ended["_id"]) is not None
