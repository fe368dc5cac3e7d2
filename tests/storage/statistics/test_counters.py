"""The statistics are what a recount gives, whatever happened at the same time."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_service.storage.common.db import Database, Session, now
from model_service.storage.statistics import counters as counters_module
from model_service.storage.statistics import recount as recount_module
from model_service.storage.statistics.counters import CREATED_DAYS
from model_service.storage.stores import build_stores
from tests.factories import Document

WRITERS = 16


def model(
    algorithm: str = "svm",
    *,
    status: str = "active",
    sizes: tuple[int, ...] = (),
    namespace: str = "",
    days_ago: int = 0,
) -> Document:
    return {
        "name": f"{namespace}/{uuid4().hex}".removeprefix("/"),
        "version": "v1.0",
        "version_order": 1,
        "namespace": namespace,
        "algorithm": algorithm,
        "status": status,
        "files": [{"size_bytes": size} for size in sizes],
        "download_count": 0,
        "created_at": now() - timedelta(days=days_ago),
    }


class Registry:
    """The models and their counters, changed together as the service does it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.counters = build_stores(database).counters

    def add(self, document: Document) -> Document:
        def work(session: Session) -> None:
            document.pop("_id", None)
            self.database.models.insert_one(document, session=session)
            self.counters.change(None, document, session)

        self.database.transaction(work)
        return document

    def edit(self, document: Document, **changes: Any) -> None:
        def work(session: Session) -> None:
            before = self.database.models.find_one({"_id": document["_id"]}, session=session)
            if before is not None:
                self.database.models.update_one({"_id": before["_id"]}, {"$set": changes}, session=session)
                self.counters.change(before, before | changes, session)

        self.database.transaction(work)

    def remove(self, document: Document) -> None:
        def work(session: Session) -> None:
            gone = self.database.models.find_one_and_delete({"_id": document["_id"]}, session=session)
            if gone is not None:
                self.counters.change(gone, None, session)

        self.database.transaction(work)

    def recounted(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        """By algorithm and status: models, bytes, created today and in seven days, one model at a time."""
        today = now().date()
        sums: dict[tuple[str, str], Counter[str]] = {}
        for document in self.database.models.find():
            group = sums.setdefault((document["algorithm"], document["status"]), Counter())
            age = (today - document["created_at"].date()).days
            size = sum(file["size_bytes"] for file in document["files"])
            group.update(models=1, bytes=size, today=int(age == 0), week=int(age < 7))
        return {
            key: (group["models"], group["bytes"], group["today"], group["week"])
            for key, group in sums.items()
        }

    def counted(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        return {
            (group.algorithm, group.status): (
                group.models,
                group.size_bytes,
                group.created_today,
                group.created_last_7_days,
            )
            for group in self.counters.groups()
        }


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def at_once(work: Callable[[int], Any], times: int) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(work, range(times)))


def test_concurrent_creators_are_all_counted(registry: Registry) -> None:
    at_once(lambda number: registry.add(model("abc"[number % 3], sizes=(number,))), 150)
    assert sum(group.models for group in registry.counters.groups()) == 150
    assert registry.counted() == registry.recounted()


def test_a_creator_whose_transaction_ends_early_is_not_counted(registry: Registry) -> None:
    def work(session: Session) -> None:
        registry.counters.change(None, model(), session)
        raise LookupError

    with pytest.raises(LookupError):
        registry.database.transaction(work)
    assert registry.counters.groups() == []


def test_creations_are_counted_by_day(registry: Registry) -> None:
    for days_ago in (0, 0, 1, 6, 7, 400):
        registry.add(model(days_ago=days_ago))
    [group] = registry.counters.groups()
    assert (group.models, group.created_today, group.created_last_7_days) == (6, 2, 4)


def test_only_the_named_namespaces_are_summed(registry: Registry) -> None:
    for namespace in ("", "vision", "vision", "speech"):
        registry.add(model(namespace=namespace))
    counts = {
        tuple(names): sum(group.models for group in registry.counters.groups(list(names)))
        for names in ((), ("vision",), ("", "speech"))
    }
    assert counts == {(): 0, ("vision",): 2, ("", "speech"): 2}


def test_a_group_without_models_is_not_shown(registry: Registry) -> None:
    document = registry.add(model("svm", sizes=(5,)))
    registry.edit(document, status="archived")
    assert [(group.status, group.models) for group in registry.counters.groups()] == [("archived", 1)]
    registry.remove(document)
    assert registry.counters.groups() == []


def test_prune_forgets_old_days_and_empty_groups_and_changes_no_answer(registry: Registry) -> None:
    gone = registry.add(model("gone"))
    registry.remove(gone)
    registry.add(model("kept"))
    registry.database.model_counters.update_many(
        {"models": {"$exists": True}}, {"$set": {"created.20200101": 7}}
    )
    before = registry.counted()
    registry.counters.prune()
    assert registry.counted() == before
    assert registry.database.model_counters.count_documents({"created.20200101": {"$exists": True}}) == 0
    registry.database.model_counters.update_many({"_id.algorithm": "gone"}, {"$set": {"created": {}}})
    registry.counters.prune()
    assert registry.database.model_counters.count_documents({"_id.algorithm": "gone"}) == 0
    assert registry.counters.rebuild() == 0


def test_rebuild_counts_what_was_never_counted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount_module, "BATCH", 7)  # several batches
    documents = [
        model("ab"[n % 2], sizes=(n,), namespace="vn"[n % 2], days_ago=n % CREATED_DAYS) for n in range(40)
    ]
    registry.database.model_counters.delete_many({})  # a database from before there were counters
    registry.database.models.insert_many(documents)
    registry.counters.ensure()
    assert registry.counted() == registry.recounted()
    registry.counters.ensure()  # and does not count them twice
    assert registry.counted() == registry.recounted()


def test_rebuild_corrects_and_then_finds_nothing_wrong(registry: Registry) -> None:
    documents = [registry.add(model("ab"[number % 2])) for number in range(6)]
    registry.database.models.delete_one({"_id": documents[0]["_id"]})
    registry.database.model_counters.update_one(
        {"_id.algorithm": "b"}, {"$inc": {"models": 100, "bytes": -3}}
    )
    assert registry.counters.rebuild() == 2
    assert registry.counted() == registry.recounted()
    assert registry.counters.rebuild() == 0


def test_two_rebuilds_at_once_correct_once(registry: Registry) -> None:
    registry.database.models.insert_many([model() for _ in range(50)])
    at_once(lambda _: registry.counters.rebuild(), 4)
    assert registry.counted() == registry.recounted()


def test_rebuild_goes_on_beside_writers(registry: Registry) -> None:
    registry.database.models.insert_many([model(sizes=(3,)) for _ in range(300)])
    stop = threading.Event()
    rebuilt: list[int] = []

    def rebuild() -> None:
        while not stop.is_set():
            rebuilt.append(registry.counters.rebuild())

    thread = threading.Thread(target=rebuild)
    thread.start()
    try:
        at_once(lambda number: registry.remove(registry.add(model("ab"[number % 2], sizes=(1,)))), 60)
        at_once(lambda number: registry.add(model("ab"[number % 2], sizes=(2,))), 60)
    finally:
        stop.set()
        thread.join()
    assert rebuilt
    assert registry.counters.rebuild() == (0 if len(rebuilt) > 1 or rebuilt == [1] else 1)
    assert registry.counted() == registry.recounted()


STEP = st.tuples(
    st.sampled_from(["add", "edit", "remove"]),
    st.integers(0, 7),  # which of the models that are there
    st.sampled_from(["svm", "xgboost"]),
    st.sampled_from(["active", "archived"]),
    st.integers(0, 1000),
    st.integers(0, CREATED_DAYS + 2),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=st.lists(st.lists(STEP, max_size=12), min_size=2, max_size=6))
def test_random_changes_at_once(registry: Registry, histories: list[list[tuple[Any, ...]]]) -> None:
    """Threads add, change and remove models that they share; the sums stay what the models are."""
    there: list[Document] = []

    def live(history: list[tuple[Any, ...]]) -> None:
        for action, which, algorithm, status, size, days_ago in history:
            shared = list(there)
            if action == "add" or not shared:
                there.append(registry.add(model(algorithm, status=status, sizes=(size,), days_ago=days_ago)))
            elif action == "edit":
                changes = {"algorithm": algorithm, "status": status, "files": [{"size_bytes": size}]}
                registry.edit(shared[which % len(shared)], **changes)
            else:
                registry.remove(shared[which % len(shared)])

    with ThreadPoolExecutor(len(histories)) as pool:
        list(pool.map(live, histories))
    assert registry.counted() == registry.recounted()
    assert registry.counters.groups() == registry.counters.groups([""])


def test_an_abandoned_transaction_stops_nobody(registry: Registry) -> None:
    """What a process that was killed had under way holds its slot until MongoDB ends it, after a minute."""
    with ThreadPoolExecutor(1) as pool, registry.database.client.start_session() as left_behind:
        pool.submit(registry.add, model()).result(timeout=30)
        left_behind.start_transaction()
        pool.submit(registry.counters.change, None, model(), left_behind).result(timeout=30)
        try:
            pool.submit(registry.add, model()).result(timeout=30)
        finally:
            left_behind.abort_transaction()
    assert registry.counted() == registry.recounted()


def test_threads_of_a_process_do_not_share_a_slot(registry: Registry) -> None:
    barrier = threading.Barrier(WRITERS)

    def add(_: int) -> None:
        barrier.wait(timeout=30)
        registry.add(model())

    at_once(add, WRITERS)
    slots = registry.database.model_counters.distinct("_id.slot")
    assert len(slots) == WRITERS
    assert all(0 <= slot < counters_module.SLOTS for slot in slots)
