from datetime import timedelta
from typing import Any

import pytest

from model_service.services.common.references import version_order
from model_service.storage.blobs.blobs import Blob, Blobs
from model_service.storage.common.db import Database, Session, now
from model_service.storage.models import trash as trash_module
from model_service.storage.models.models import Models
from model_service.storage.models.trash import Trash
from model_service.storage.stores import Stores, build_stores
from tests.services.documents import model_document

DAY_S = 86_400


@pytest.fixture
def stores(database: Database) -> Stores:
    return build_stores(database)


@pytest.fixture
def blobs(stores: Stores) -> Blobs:
    return stores.blobs


@pytest.fixture
def models(stores: Stores) -> Models:
    return stores.models


@pytest.fixture
def trash(stores: Stores) -> Trash:
    return stores.trash


def insert(database: Database, models: Models, version: str, files: list[dict[str, Any]]) -> Any:
    document = model_document(version=version, version_order=version_order(version), files=files)
    database.transaction(lambda session: models.insert(document, session))
    return document["_id"]


def put(database: Database, trash: Trash, model_id: Any, *, days_ago: int = 0) -> None:
    database.transaction(lambda session: trash.put(model_id, session))
    at = now() - timedelta(days=days_ago, seconds=1)
    database.deleted_models.update_one({"_id": model_id}, {"$set": {"deleted_at": at}})


def test_only_what_was_deleted_long_ago_is_purged(database: Database, models: Models, trash: Trash) -> None:
    kept, old, older = (insert(database, models, f"v{major}.0", []) for major in (1, 2, 3))
    for model_id, days in ((kept, 29), (old, 30), (older, 400)):
        put(database, trash, model_id, days_ago=days)
    assert trash.purge_deleted(30 * DAY_S) == 2
    assert trash.purge_deleted(30 * DAY_S) == 0
    assert [model["_id"] for model in database.deleted_models.find()] == [kept]
    actions = [entry["action"] for entry in database.audit.find({"subject_id": str(old)}, sort=[("_id", 1)])]
    assert actions == ["created", "deleted", "purged"]


def test_many_files_are_let_go_in_steps_that_may_be_cut_short(
    database: Database, models: Models, blobs: Blobs, trash: Trash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash_module, "RELEASED_AT_ONCE", 3)
    stored: list[Blob] = []

    def refer(blob: Blob, session: Session) -> None:
        stored.append(blob)

    for content in (b"one", b"two"):
        for _ in range(4):
            blobs.publish(blobs.write(iter([content]), limit_bytes=10), refer)
    files = [{"path": f"{number}", **blob.reference()} for number, blob in enumerate(stored)]
    model_id = insert(database, models, "v1.0", files)
    put(database, trash, model_id)

    def references() -> list[int]:
        return sorted(file["metadata"]["references"] for file in database.files.find())

    assert references() == [4, 4]
    with monkeypatch.context() as cut:  # a process that dies after its second step
        steps = 0
        step = trash._purge_step

        def dying(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > 2:
                raise KeyboardInterrupt
            return step(*args)

        cut.setattr(trash, "_purge_step", dying)
        with pytest.raises(KeyboardInterrupt):
            trash.purge(model_id)
    assert sum(references()) == 2
    left = database.deleted_models.find_one()
    assert left is not None
    assert len(left["files"]) == 2
    # What has lost some of its files does not come back without them.
    assert database.transaction(lambda session: trash.take(model_id, session)) is None
    assert database.models.count_documents({}) == 0
    assert trash.purge(model_id) is not None
    assert references() == [0, 0]
    assert trash.purge(model_id) is None
