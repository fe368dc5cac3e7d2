"""Whatever is stored, replaced and deleted at the same time: a blob counts exactly what refers to it."""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_service.config import Settings
from model_service.errors import InvalidRequest
from model_service.services import Services, build_services
from model_service.services.files.files import NewFile
from model_service.services.models.replacement import Consent
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.factories import model_fields

THREADS = 4
REPLACE = Consent(replace=True)
# One that is written with the transaction, one of a chunk, one of two.
CONTENTS = [b"small", b"m" * 300_000, b"l" * 2_500_000]
NAMES = ["a", "b"]
PATHS = ["x", "y/z"]

operations = st.tuples(
    st.sampled_from(["put", "upload", "remove", "put back", "empty", "delete", "purge", "copy", "restore"]),
    st.sampled_from(NAMES),
    st.sampled_from(PATHS),
    st.sampled_from(CONTENTS),
)


@pytest.fixture
def services(settings: Settings, database: Database) -> Services:
    return build_services(settings, build_stores(database, settings))


def run(services: Services, ids: dict[str, str], operation: tuple[str, str, str, bytes]) -> None:
    """One operation; that another thread was faster is no failure."""
    what, name, path, content = operation
    model_id = ids[name]
    actions: dict[str, Callable[[], Any]] = {
        "put": lambda: store(services, model_id, content, NewFile.at(path)),
        "upload": lambda: store(services, model_id, content, NewFile.of_holder(name, path)),
        "put back": lambda: services.deleted_files.restore(
            model_id, last_removed(services, model_id), consent=REPLACE
        ),
        "empty": lambda: services.deleted_files.purge(model_id, last_removed(services, model_id)),
        "remove": lambda: services.files.remove(model_id, path),
        "delete": lambda: services.models.delete(model_id),
        "purge": lambda: services.models.delete(model_id, purge=True),
        "copy": lambda: services.models.new_version(model_id, {}, copy_files=True),
        "restore": lambda: services.trash.restore(model_id),
    }
    with suppress(InvalidRequest):
        actions[what]()


def store(services: Services, model_id: str, content: bytes, new: NewFile) -> None:
    document = services.files.writable(model_id)
    services.files.store(document, iter([content]), new, sha256=None, consent=lambda: REPLACE)


def last_removed(services: Services, model_id: str) -> str:
    removed = services.deleted_files.page(model_id, 1, 1).items
    return str(removed[0]["_id"]) if removed else "f" * 24


def referred_to(database: Database) -> Counter[str]:
    files = [
        file
        for collection in (database.models, database.deleted_models)
        for model in collection.find({}, {"files": True})
        for file in model["files"]
    ]
    files += [entry["file"] for entry in database.removed_files.find()]
    return Counter(file["checksum"].removeprefix("sha256:") for file in files)


def check(database: Database) -> None:
    referred = referred_to(database)
    counted = {
        file["metadata"]["sha256"]: file["metadata"]["references"]
        for file in database.files.find({})
        if file["metadata"]["references"]
    }
    assert counted == dict(referred)
    blobs = build_stores(database).blobs
    blobs.sweep(safety_s=-1)
    stored = {file["metadata"]["sha256"]: file for file in database.files.find({})}
    assert set(stored) == set(referred)
    for sha256, file in stored.items():
        content = b"".join(blobs.read(file["_id"], 0, file["length"]))
        assert hashlib.sha256(content).hexdigest() == sha256
    kept = {file["_id"] for file in stored.values()}
    assert set(database.chunks.distinct("files_id")) <= kept
    assert database.uploads.count_documents({}) == 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(operations, min_size=1, max_size=6), min_size=THREADS, max_size=THREADS))
def test_references_are_counted_exactly(
    services: Services, database: Database, threads: list[list[tuple[str, str, str, bytes]]]
) -> None:
    for name in ("models", "deleted_models", "removed_files", "version_numbers", "files", "chunks"):
        getattr(database, name).delete_many({})
    ids = {name: str(services.models.register(model_fields(name=name))["_id"]) for name in NAMES}
    with ThreadPoolExecutor(THREADS) as pool:
        running = [
            pool.submit(lambda mine=mine: [run(services, ids, operation) for operation in mine])
            for mine in threads
        ]
        for each in running:
            each.result()
    check(database)
