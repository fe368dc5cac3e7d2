"""The mechanism of migrations: once, in order, under a lease, and to the end whatever happens on the way."""

import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId

from model_service.config import Settings
from model_service.storage.blobs.blobs import Blob
from model_service.storage.common.db import Database, Session, now
from model_service.storage.deployments.documents import DEFAULT_CONFIG
from model_service.storage.migrations import COLLECTIONS, LATEST, MIGRATIONS, DataTooNew, prepare
from model_service.storage.migrations.base import Migration
from model_service.storage.migrations.runner import LEASE, Runner
from model_service.storage.stores import build_stores
from tests.api.finished import wrong_references
from tests.factories import Document
from tests.storage.conftest import World, routing_of
from tests.storage.migrations.paged_migration import environment, paged_migration

COUNT = 3000


def _double(database: Database, documents: Sequence[Document]) -> list[Document]:
    """Not idempotent in itself: the mark makes it so, as each step has one."""
    return [
        each if "doubled" in each else each | {"number": each["number"] * 2, "doubled": True}
        for each in documents
    ]


def _add_one(database: Database, documents: Sequence[Document]) -> list[Document]:
    assert all(each["doubled"] for each in documents), "the steps run in their order"
    return [
        each if "added" in each else each | {"number": each["number"] + 1, "added": True}
        for each in documents
    ]


TWO_STEPS = [
    Migration(1, "doubled numbers", {"notes": _double}),
    Migration(2, "numbers and one", {"notes": _add_one}),
]


@pytest.fixture
def notes(settings: Settings) -> Iterator[Database]:
    """Documents of a version before there were migrations."""
    database = Database(settings)
    database.schema.delete_many({})
    database.collection("notes").insert_many(
        [{"_id": uuid.uuid4().hex if i % 2 else i, "number": i} for i in range(COUNT)]
    )
    yield database
    database.schema.delete_many({})
    database.close()


def numbers(database: Database) -> list[int]:
    return sorted(each["number"] for each in database.collection("notes").find())


RIGHT = [2 * i + 1 for i in range(COUNT)]


def test_the_steps_are_numbered_from_one_without_a_gap() -> None:
    assert [each.version for each in MIGRATIONS] == list(range(1, LATEST + 1))


def test_steps_run_in_order_and_once(notes: Database) -> None:
    lines: list[str] = []
    Runner(notes, TWO_STEPS, lines.append).run()
    assert numbers(notes) == RIGHT
    (schema,) = notes.schema.find()
    assert (schema["schema_version"], schema["collections"]) == (2, {"notes": 2})
    assert schema["migration"] is None
    assert lines[0].startswith("migration 1 of 2 (doubled numbers): notes ")
    never = [replace(step, documents={"notes": _refuse}) for step in TWO_STEPS]
    Runner(notes, never, lines.append).run()


def _refuse(database: Database, documents: Sequence[Document]) -> list[Document]:
    raise AssertionError("it ran a second time")


def test_of_several_processes_one_migrates_and_all_wait_for_it(notes: Database) -> None:
    pages: list[int] = []

    def counted(database: Database, documents: Sequence[Document]) -> list[Document]:
        pages.append(len(documents))
        return _double(database, documents)

    steps = [Migration(1, "doubled numbers", {"notes": counted})]

    def run(_: int) -> list[int]:
        Runner(notes, steps, lambda line: None).run()
        return numbers(notes)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [[2 * i for i in range(COUNT)]] * 4
    assert sum(pages) == COUNT


def test_killed_ten_times_in_the_middle_it_ends_right(notes: Database, settings: Settings) -> None:
    steps = f"{__name__}:TWO_STEPS"
    for kill in range(10):
        with paged_migration(settings, steps, page=100) as process:
            process.run_pages(3)
            process.kill_in_the_next_page(after_s=kill * 0.002)
    (schema,) = notes.schema.find()
    assert schema["migration"] is not None, "it was killed in the middle"
    assert schema["schema_version"] < 2
    with paged_migration(settings, steps, page=100) as process:
        assert process.run_to_the_end() == 0
    assert numbers(notes) == RIGHT
    (schema,) = notes.schema.find()
    assert schema["schema_version"] == 2


def test_a_process_that_lost_its_lease_overwrites_nothing(notes: Database) -> None:
    """Stopped for long in the middle of a page, while another one migrated and the service went on."""

    def late(database: Database, documents: Sequence[Document]) -> list[Document]:
        upgraded = _double(database, documents)
        if "doubled" not in documents[0]:
            notes.leases.delete_one({"_id": LEASE})  # as if it had run out
            Runner(notes, TWO_STEPS, lambda line: None).run()
            notes.collection("notes").update_one({"_id": 0}, {"$set": {"number": 77}})
        return upgraded

    Runner(notes, [Migration(1, "doubled numbers", {"notes": late}), TWO_STEPS[1]], lambda line: None).run()
    assert numbers(notes) == sorted([*RIGHT[1:], 77])


def test_data_of_a_newer_version_is_refused(notes: Database) -> None:
    make_newer(notes)
    with pytest.raises(DataTooNew) as refused:
        prepare(notes)
    (line,) = str(refused.value).splitlines()
    assert f"schema version {LATEST + 1}, written by model-service 9.9.9" in line
    assert numbers(notes) == list(range(COUNT)), "nothing was changed"


@pytest.mark.parametrize("process", ["api", "jobs", "serving", "cli verify"])
def test_no_process_starts_on_newer_data(notes: Database, settings: Settings, process: str) -> None:
    make_newer(notes)
    module, *arguments = process.split()
    ended = subprocess.run(
        [sys.executable, "-m", f"model_service.{module}", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "Install model-service 9.9.9 or newer" in line


def make_newer(database: Database) -> None:
    newer = {"schema_version": LATEST + 1, "service_version": "9.9.9", "migration": None}
    database.schema.insert_one({"_id": "schema"} | newer)


def test_a_new_database_begins_with_the_newest_version(settings: Settings) -> None:
    database = Database(settings)
    database.schema.delete_many({})
    prepare(database)
    (schema,) = database.schema.find()
    assert (schema["schema_version"], schema["collections"]) == (LATEST, COLLECTIONS)
    database.close()


def test_a_deployment_of_before_the_revisions_goes_on(world: World, database: Database) -> None:
    blobs, deployment_id, at = build_stores(database).blobs, str(uuid.uuid4()), now()
    old: dict[str, Any] = {
        "_id": deployment_id,
        "export_job_id": "the job",
        "deployment_type": "platform_endpoint",
        "name": "digits",
        "description": None,
        "config": {},
        "status": "active",
        "endpoint_url": "http://here",
        "model_name": "digits",
        "namespace": "",
        "model_version": "v1.0",
        "request_count": 3,
        "last_request_at": None,
        "total_inference_time_ms": 1.5,
        "created_at": at,
        "updated_at": at,
        "deployed_at": at,
    }

    def refer(stored: Blob, session: Session) -> None:
        package = {"package": stored.reference()}
        database.deployments.insert_one(old | package, session=session)
        key = {"deployment_id": deployment_id, "prefix": "pk_", "sha256": "00", "created_at": at}
        database.api_keys.insert_one(key, session=session)

    blobs.publish(blobs.write(iter([b"old"]), limit_bytes=10), refer)
    of = {"model_id": ObjectId(), "model_name": "digits", "model_version": "v1.0", "created_at": at}
    database.export_jobs.insert_one({"_id": "the job", "export_format": "openvino", "log": [], **of})
    database.schema.delete_many({})
    prepare(database)
    assert wrong_references(database) == []
    (served,) = world.served_deployments.read()
    assert "package" not in served
    assert served["config"] == DEFAULT_CONFIG
    assert (served["revision"], served["live_revision"]) == (1, 1)
    (member,) = served["routing"]["members"]
    assert (member["name"], member["format"]) == ("v1.0", "openvino")
    (key,) = database.api_keys.find({"deployment_id": deployment_id})
    assert [each["_id"] for each in served["keys"]] == [key["_id"]]
    assert (key["name"], key["sha256"], uuid.UUID(key["_id"]).version) == ("default", "00", 5)
    assert world.serving_reports.made_live(deployment_id, 1) is False
    with_another = routing_of(("v1.1", world.package(b"new")))
    assert world.revise(deployment_id, with_another) == 2
    assert wrong_references(database) == []
