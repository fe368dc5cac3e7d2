import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from model_service.actor import ALL, Actor, acting_as
from model_service.config import Settings
from model_service.errors import Conflict, InvalidField
from model_service.services import Services, build_services
from model_service.services.common.references import MINORS
from model_service.storage.common.db import Database
from model_service.storage.common.group_commit import MOST_AT_ONCE, GroupCommit
from model_service.storage.models.creations import Creations
from model_service.storage.stores import build_stores
from tests.factories import model_fields
from tests.waiting import wait_for

WAIT_S = 30


class Store:
    """Keeps the groups it is given; the first one waits until ``go``."""

    def __init__(self, refuse: Callable[[int], Exception | None] = lambda item: None) -> None:
        self.groups: list[list[int]] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self._refuse = refuse

    def commit(self, items: Sequence[int]) -> list[Exception | None]:
        self.groups.append(list(items))
        self.entered.set()
        assert self.go.wait(WAIT_S)
        return [self._refuse(item) for item in items]


def waiting(group: GroupCommit[int], count: int) -> bool:
    with group._lock:
        return len(group._queue) == count


def test_what_comes_meanwhile_goes_together() -> None:
    store = Store()
    group = GroupCommit(store.commit)
    with ThreadPoolExecutor(50) as pool:
        first = pool.submit(group.run, 0)
        assert store.entered.wait(WAIT_S)
        others = [pool.submit(group.run, item) for item in range(1, 40)]
        wait_for(lambda: waiting(group, 39), "39 that wait")
        store.go.set()
        for future in (first, *others):
            future.result(WAIT_S)
    assert [len(items) for items in store.groups] == [1, MOST_AT_ONCE, 39 - MOST_AT_ONCE]
    assert sorted(item for items in store.groups for item in items) == list(range(40))


def test_an_item_that_is_refused_fails_alone() -> None:
    store = Store(lambda item: ValueError(item) if item % 2 else None)
    store.go.set()
    group = GroupCommit(store.commit)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(group.run, item) for item in range(40)]
        errors = [future.exception(WAIT_S) for future in futures]
    assert [error is not None for error in errors] == [item % 2 == 1 for item in range(40)]


def test_what_ends_a_group_is_everybodys_error_and_the_next_goes_on() -> None:
    broken = threading.Event()

    def commit(items: Sequence[int]) -> list[None]:
        if not broken.is_set():
            broken.set()
            raise ConnectionError("gone")
        return [None] * len(items)

    group = GroupCommit(commit)
    with pytest.raises(ConnectionError):
        group.run(0)
    group.run(1)


def test_creations_at_once_get_numbers_of_their_own(settings: Settings, database: Database) -> None:
    models = build_services(settings, build_stores(database, settings)).models
    names = ["a", "b", "vision/c"]
    models.delete(str(models.register(model_fields(name="a"))["_id"]))  # v1.0 is in the trash

    with ThreadPoolExecutor(24) as pool:
        made = list(pool.map(lambda n: models.register(model_fields(name=names[n % 3])), range(72)))
    for name in names:
        minors = sorted(model["version_order"] - MINORS for model in made if model["name"] == name)
        first = 1 if name == "a" else 0
        assert minors == list(range(first, first + 24))
    assert database.models.count_documents({}) == 72
    assert sum(group.models for group in build_stores(database).counters.groups()) == 72
    noted = {entry["subject_id"]: entry["details"] for entry in database.audit.find({"action": "created"})}
    assert all(noted[str(model["_id"])] == {"version": model["version"]} for model in made)


@contextmanager
def all_at_once(
    services: Services, monkeypatch: pytest.MonkeyPatch, count: int
) -> Iterator[Callable[[Callable[[], object]], Future[object]]]:
    """Submits registrations: ``count`` of them in one group, behind one that is held until the block ends."""
    release, insert = threading.Barrier(2, timeout=WAIT_S), Creations._insert
    held = threading.Event()

    def slow(self: Creations, creations: Sequence[object], session: object) -> None:
        if not held.is_set():  # the first to come is held until all the others wait behind it
            held.set()
            release.wait()
        insert(self, creations, session)  # type: ignore[arg-type]

    monkeypatch.setattr(Creations, "_insert", slow)
    group = services.models._versions._creations._group
    with ThreadPoolExecutor(count + 1) as pool:
        first = pool.submit(services.models.register, model_fields(name="first"))
        assert held.wait(WAIT_S)
        yield pool.submit
        wait_for(lambda: len(group._queue) == count, f"{count} in the queue")
        release.wait()
        first.result(WAIT_S)


def test_a_group_with_one_that_cannot_be_stored_stores_the_rest(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = build_services(settings, build_stores(database, settings))
    models = services.models
    models.register(model_fields(name="taken", version="v1.0"))
    models.register(model_fields(name="full", version="v999999999999.999999"))
    # The last two are refused by the driver and by the server.
    wanted: list[dict[str, Any]] = [
        {"name": "taken", "version": "v1.0"},
        {"name": "full"},
        *({"name": f"n{n}"} for n in range(6)),
        {"name": "wide", "metrics": {"n": 2**70}},
        {"name": "deep", "metrics": nested(300)},
    ]
    with all_at_once(services, monkeypatch, len(wanted)) as submit:
        complete = [model_fields() | fields for fields in wanted]
        futures = [submit(partial(models.register, fields)) for fields in complete]
    errors = [future.exception(WAIT_S) for future in futures]
    assert [type(error) for error in errors[:8]] == [Conflict, InvalidField, *[type(None)] * 6]
    assert all(error is not None for error in errors[8:])
    assert database.models.count_documents({}) == 9
    assert database.audit.count_documents({"action": "created"}) == 9
    assert build_stores(database).counters.rebuild() == 0


def test_each_creation_of_a_group_is_noted_as_whoever_asked_for_it(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = build_services(settings, build_stores(database, settings))

    def register(who: str) -> object:
        with acting_as(Actor(who, everywhere=ALL, key_id=f"key of {who}")):
            return services.models.register(model_fields(name=who))

    people = [f"user{n}" for n in range(8)]
    with all_at_once(services, monkeypatch, len(people)) as submit:
        futures = [submit(partial(register, who)) for who in people]
    for future in futures:
        future.result(WAIT_S)
    noted = {entry["name"]: (entry["actor"], entry["key_id"]) for entry in database.audit.find()}
    assert {who: noted[who] for who in people} == {who: (who, f"key of {who}") for who in people}


def nested(depth: int) -> dict[str, Any]:
    return {"in": nested(depth - 1)} if depth else {}
