import os
from typing import Any

import pytest
from bson import ObjectId

from model_service.services.operations.integrity import IntegrityService
from model_service.storage.blobs.blobs import Blob, Blobs
from model_service.storage.common.db import Database
from model_service.storage.operations.integrity import Integrity
from model_service.storage.operations.maintenance import Maintenance
from model_service.storage.stores import build_stores
from tests.services.documents import model_document

CONTENT = os.urandom(5_000_000)


@pytest.fixture
def blobs(database: Database) -> Blobs:
    return build_stores(database).blobs


@pytest.fixture
def integrity(database: Database) -> IntegrityService:
    return IntegrityService(build_stores(database))


def register(database: Database, blobs: Blobs, name: str, content: bytes) -> dict[str, Any]:
    model = model_document(name=name)

    def refer(stored: Blob, session: Any) -> None:
        model["files"] = [{"path": "m", **stored.reference()}]
        database.models.insert_one(model, session=session)
        build_stores(database).counters.change(None, model, session)

    blobs.publish(blobs.write([content], limit_bytes=1 << 40), refer)
    return model


def found(integrity: IntegrityService, **options: Any) -> list[str]:
    return [str(problem) for problem in integrity.verify(**options)]


def test_what_is_whole_has_no_problem(database: Database, blobs: Blobs, integrity: IntegrityService) -> None:
    for n in range(3):
        register(database, blobs, f"m{n}", CONTENT if n else b"x")
    seen: list[tuple[int, int]] = []
    assert found(integrity, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (len(CONTENT) + 1, len(CONTENT) + 1)
    last = Maintenance(database).last("verify")
    assert last is not None
    assert (last["problems"], last["blobs"]) == (0, 2)
    assert Integrity(database).sample(5) == []


def test_a_missing_chunk_is_named(database: Database, blobs: Blobs, integrity: IntegrityService) -> None:
    model = register(database, blobs, "m", CONTENT)
    blob = model["files"][0]["file_id"]
    database.chunks.delete_one({"files_id": blob, "n": 2})
    (problem,) = found(integrity, repair=True)
    assert str(blob) in problem
    assert "missing" in problem
    assert Integrity(database).sample(5) == [f"model {model['_id']}: the end of its file is missing"]


def test_a_changed_byte_is_found(database: Database, blobs: Blobs, integrity: IntegrityService) -> None:
    register(database, blobs, "m", CONTENT)
    chunk = database.chunks.find_one({"n": 1})
    assert chunk is not None
    changed = b"\0" + chunk["data"][1:]
    database.chunks.update_one({"_id": chunk["_id"]}, {"$set": {"data": changed}})
    (problem,) = found(integrity)
    assert "the sha256 of its bytes is" in problem


def test_a_lost_blob_is_told_with_who_holds_it(
    database: Database, blobs: Blobs, integrity: IntegrityService
) -> None:
    model = register(database, blobs, "m", b"bytes")
    register(database, blobs, "n", b"bytes")
    database.files.delete_many({})
    problems = found(integrity)
    assert len(problems) == 2  # the blob, and its chunks, which nothing knows any more
    assert "models" in problems[0]
    assert "and 1 more" in problems[0]
    assert "belong to no file" in problems[1]
    assert len(Integrity(database).sample(5)) == 2
    assert str(model["files"][0]["file_id"]) in problems[0]


@pytest.mark.parametrize("counted", [0, 1, 7])
def test_wrong_counts_are_repaired(
    database: Database, blobs: Blobs, integrity: IntegrityService, counted: int
) -> None:
    for n in range(2):
        register(database, blobs, f"m{n}", b"bytes")
    database.files.update_one({}, {"$set": {"metadata.references": counted}})
    (problem,) = found(integrity)
    assert f"its reference count is {counted}, the number of its uses 2" in problem
    assert found(integrity, repair=True) == [f"{problem} (repaired)"]
    assert found(integrity) == []


def test_a_blob_without_a_holder_is_left_to_the_sweep(
    database: Database, blobs: Blobs, integrity: IntegrityService
) -> None:
    register(database, blobs, "m", b"bytes")
    database.models.delete_many({})
    build_stores(database).counters.rebuild()
    assert len(found(integrity, repair=True)) == 1
    blobs.sweep(-1)
    assert database.files.count_documents({}) == database.chunks.count_documents({}) == 0


def test_statistics_are_repaired(database: Database, blobs: Blobs, integrity: IntegrityService) -> None:
    register(database, blobs, "m", b"bytes")
    database.models.insert_one(model_document(name="uncounted", algorithm="other"))
    assert found(integrity, repair=True) == ["the statistics of 1 groups differed from a recount (repaired)"]
    assert found(integrity, repair=True) == []


def test_stray_chunks_are_told_and_uploads_are_not(
    database: Database, blobs: Blobs, integrity: IntegrityService
) -> None:
    blobs.write([b"under way"], limit_bytes=100)
    assert found(integrity) == []
    stray = ObjectId()
    database.chunks.insert_one({"files_id": stray, "n": 0, "data": b"x"})
    assert found(integrity) == [f"chunks of {stray} belong to no file and to no upload"]


def test_a_document_that_is_not_of_its_type_is_named(
    database: Database, blobs: Blobs, integrity: IntegrityService
) -> None:
    model = register(database, blobs, "digits", b"x")["_id"]
    database.models.update_one({"_id": model}, {"$set": {"revision": "three"}})
    database.users.insert_one({"_id": "ada"})
    lines = found(integrity)
    assert f"models {model}: revision: Input should be a valid integer" in lines
    assert "users ada: password: Field required" in lines
