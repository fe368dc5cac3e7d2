"""What a serving process reads twice a second: what has changed, whole; of the rest, that it is there."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import encode
from pymongo import monitoring

from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.served import ServedDeployments
from model_service.storage.stores import build_stores
from tests.factories import Document
from tests.storage.conftest import World

LONG_AGO = timedelta(hours=1)


class Replies(monitoring.CommandListener):
    """What MongoDB answered to the reads of a database."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor", {})
        self.documents += [*cursor.get("firstBatch", ()), *cursor.get("nextBatch", ())]

    def started(self, event: monitoring.CommandStartedEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    def take(self) -> list[Document]:
        taken, self.documents = self.documents, []
        return taken


replies = Replies()


@pytest.fixture(scope="module", autouse=True)
def listening() -> None:
    monitoring.register(replies)  # heard by the clients that are made from here on


@pytest.fixture
def reader(settings: Settings) -> Iterator[ServedDeployments]:
    database = Database(settings)
    yield build_stores(database).served_deployments
    database.close()


def whole(documents: list[Document]) -> list[str]:
    return sorted(each["_id"] for each in documents if "routing" in each)


def by_id(reader: ServedDeployments) -> dict[str, Document]:
    return {each["_id"]: each for each in reader.read()}


@pytest.fixture
def settled(world: World, routing: Callable[..., Any]) -> list[str]:
    """Deployments that nobody has changed for an hour."""
    made = routing("v1.0")
    at = now() - LONG_AGO
    world.database.users.insert_one({"_id": "somebody", "tier": "free", "password": "x" * 1000})
    return sorted(world.deploy(made, updated_at=at, description="x" * 1000) for _ in range(150))


def test_what_has_not_changed_is_not_read_again(reader: ServedDeployments, settled: list[str]) -> None:
    first = by_id(reader)
    assert sorted(first) == settled == whole(replies.take())
    assert by_id(reader) == first
    read = replies.take()
    assert whole(read) == []
    assert sum(len(encode(each)) for each in read) < 500 * len(settled)


def test_only_what_has_changed_is_read_whole(
    world: World,
    reader: ServedDeployments,
    settled: list[str],
    routing: Callable[..., Any],
) -> None:
    reader.read()
    revised, live, failed, scaled, crashed, deleted, deactivated, *_ = settled
    world.revise(revised, routing("v1.1"))
    world.serving_reports.made_live(live, 1)
    world.serving_reports.update_failed(failed, 1, "corrupt")
    scaling = {"min_replicas": 2, "max_replicas": 3, "target_utilization": 70}
    world.database.transaction(
        lambda session: world.deployments.set_scaling(world.read(scaled), scaling, session)
    )
    world.serving_reports.set_load_attempts(crashed, "here", 2)
    world.database.transaction(lambda session: world.deployments.delete(deleted, session))
    world.database.deployments.update_one({"_id": deactivated}, {"$set": {"status": "inactive"}})
    new = world.deploy(routing("v1.2"))
    replies.take()
    served = by_id(reader)
    assert whole(replies.take()) == sorted([revised, live, scaled, crashed, new])
    assert sorted(served) == sorted({*settled, new} - {failed, deleted, deactivated})
    assert (served[revised]["model_version"], served[live]["status"]) == ("v1.1", "active")
    assert served[scaled]["config"]["auto_scaling"] == scaling
    assert served[crashed]["load_attempts"] == {"here": 2}
    fresh = build_stores(world.database).served_deployments
    assert served == by_id(fresh)


def test_what_changes_twice_in_a_moment_is_read_again(
    world: World,
    reader: ServedDeployments,
    settled: list[str],
) -> None:
    at = now()
    for message in ("first", "second"):
        world.database.deployments.update_one(
            {"_id": settled[0]}, {"$set": {"error_message": message, "updated_at": at}}
        )
        assert by_id(reader)[settled[0]]["error_message"] == message


def test_keys_and_tiers_are_those_of_now(world: World, reader: ServedDeployments, settled: list[str]) -> None:
    assert {each["owner_tier"] for each in reader.read()} == {"free"}
    world.database.users.update_one({"_id": "somebody"}, {"$set": {"tier": "pro"}})
    world.database.api_keys.delete_many({"deployment_id": settled[0]})
    served = by_id(reader)
    assert served[settled[0]]["keys"] == []
    assert [each["sha256"] for each in served[settled[1]]["keys"]] == ["00"]
    assert {each["owner_tier"] for each in served.values()} == {"pro"}


def test_what_was_counted_is_no_change(world: World, reader: ServedDeployments, settled: list[str]) -> None:
    """Else all that is asked would be read whole, twice a second."""
    reader.read()
    world.database.deployments.update_many({"_id": {"$in": settled}}, {"$inc": {"request_count": 1}})
    replies.take()
    reader.read()
    assert whole(replies.take()) == []
