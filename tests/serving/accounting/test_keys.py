"""An endpoint's keys, and when they were used."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from model_service.serving.accounting import keys as serving_keys
from model_service.serving.accounting.keys import Keys, KeyUses
from model_service.serving.http.rsgi import client_address
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.usage import UsageCounts
from model_service.wrong_keys import WrongKeys
from tests.factories import Document
from tests.serving.conftest import Endpoint, World


def key(key_id: str, text: str, **fields: object) -> Document:
    return {"_id": key_id, "sha256": hashlib.sha256(text.encode()).hexdigest(), "expires_at": None, **fields}


def test_a_key_is_recognised_by_its_hash() -> None:
    keys = Keys([key("one", "pk_one"), key("two", "pk_two")])
    assert (keys.accepts("pk_one"), keys.accepts("pk_two")) == ("one", "two")
    for wrong in ("", "pk_on", "pk_one ", "pk_onf", "one", "\udcff"):
        assert keys.accepts(wrong) is None
    assert Keys([]).accepts("pk_one") is None


def test_a_key_expires_while_it_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    end = now() + timedelta(minutes=1)
    keys = Keys([key("one", "pk_one", expires_at=end), key("two", "pk_two")])
    assert keys.accepts("pk_one") == "one"
    monkeypatch.setattr(serving_keys.time, "time", end.timestamp)
    assert keys.accepts("pk_one") is None
    assert keys.accepts("pk_two") == "two"


def test_equal_keys_are_equal() -> None:
    first, second = key("one", "pk_one"), key("two", "pk_two")
    assert Keys([first, second]) == Keys([second, first])
    assert Keys([first]) != Keys([first, second])
    assert Keys([first]) != Keys([first | {"expires_at": now()}])
    assert hash(Keys([first])) == hash(Keys([first]))


def test_the_last_use_is_written_once_a_minute(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    database.api_keys.insert_many([key("one", "pk_one", last_used_at=None), key("two", "pk_two")])
    counts, uses, moment = UsageCounts(database), KeyUses(), [1000.0]
    monkeypatch.setattr(serving_keys.time, "monotonic", lambda: moment[0])

    def written() -> Any:
        found = database.api_keys.find_one({"_id": "one"})
        assert found is not None
        return found["last_used_at"]

    before = now()
    uses.note("one")
    uses.flush(counts)
    assert before <= written() <= now()
    before -= timedelta(days=1)
    database.api_keys.update_one({"_id": "one"}, {"$set": {"last_used_at": before}})
    uses.note("one")
    uses.note("gone")
    moment[0] += 59
    uses.flush(counts)
    assert written() == before
    moment[0] += 2
    uses.flush(counts)
    assert written() > before
    assert database.api_keys.count_documents({}) == 2
    assert database.api_keys.count_documents({"_id": "two", "last_used_at": {"$exists": True}}) == 0


def test_a_use_is_kept_while_mongodb_is_away(database: Database) -> None:
    class Away(UsageCounts):
        def note_key_uses(self, *given: object) -> None:
            raise ConnectionError

    database.api_keys.insert_one(key("one", "pk_one"))
    uses = KeyUses()
    uses.note("one")
    with pytest.raises(ConnectionError):
        uses.flush(Away(database))
    uses.flush(UsageCounts(database))
    assert database.api_keys.count_documents({"_id": "one", "last_used_at": {"$ne": None}}) == 1


def test_wrong_keys_are_slowed_and_right_ones_are_not(
    world: World, listen: Callable[..., Endpoint], package_zip: bytes
) -> None:
    deployment_id = world.deploy(package_zip)
    served = listen(
        world.serving(deployment_id), deployment_id, wrong_keys=WrongKeys("60 per minute", 60, 60)
    )
    body = {"inputs": [[1, 2, 3]]}
    answers = [served.ask(body, key="pk_wrong") for _ in range(140)]
    assert [answer.status for answer in answers] == [401] * 60 + [429] * 80
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert served.ask(body).status == 200
    assert served.request("GET", "/v2/models/endpoint", headers={"X-API-Key": "wrong"}).status == 429
    assert served.request("GET", "/v2/models/endpoint").status == 401


@pytest.mark.parametrize(
    ("proxies", "reported", "address"),
    [
        (0, "192.0.2.9", "127.0.0.1"),
        (1, "192.0.2.9", "192.0.2.9"),
        (1, "192.0.2.9, 192.0.2.8", "192.0.2.8"),
        (2, "192.0.2.7, 192.0.2.9, 192.0.2.8", "192.0.2.9"),
        (1, None, "127.0.0.1"),
    ],
)
def test_the_client_is_who_the_trusted_proxies_report(
    proxies: int, reported: str | None, address: str
) -> None:
    scope = SimpleNamespace(
        client="127.0.0.1:1234", headers={"x-forwarded-for": reported} if reported else {}
    )
    assert client_address(scope, proxies) == address
