"""How many exports a user may ask for, by tier."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.operations.workers import Workers
from tests.api.finished import TOOLS, complete
from tests.api.people import Caller, People, secured
from tests.factories import new_model

URL = "/api/v1/export/jobs"
LIMITS = "free=1/3, pro=2/100"


def uploaded(somebody: Caller) -> str:
    model = somebody("POST", "/api/v1/models", json=new_model(), status=201).json
    path = f"/api/v1/models/{model['model_id']}/upload"  # type: ignore[index]
    somebody("POST", path, data=b"some bytes", headers={"X-Filename": "m.pt2"}, status=201)
    return str(model["model_id"])  # type: ignore[index]


def ask(somebody: Caller, model_id: str, **fields: Any) -> Any:
    return somebody(
        "POST", URL, json={"model_id": model_id, "export_format": "onnx", "reuse": False, **fields}
    )


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(secured(settings, export_limits=LIMITS))


def test_a_tier_bounds_what_is_under_way(app: Flask, database: Database) -> None:
    people = People(app)
    free = people.user("anna", ["writer"], tier="free")
    model_id = uploaded(free)
    first = ask(free, model_id)
    assert first.status_code == 202
    refused = ask(free, model_id)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    error = refused.json["error"]
    assert error["code"] == "export_limit_reached"
    assert error["details"] == {
        "limit": "concurrent",
        "tier": "free",
        "allowed": 1,
        "used": 1,
        "retry_after_s": 60,
    }
    people.root("PATCH", "/api/v1/users/anna", json={"tier": "pro"}, status=200)
    assert free("GET", "/api/v1/users/me").json["tier"] == "pro"  # type: ignore[index]
    assert ask(free, model_id).status_code == 202
    assert ask(free, model_id).status_code == 429
    free("POST", f"{URL}/{first.json['id']}/cancel", status=200)
    assert ask(free, model_id).status_code == 202


def test_a_tier_bounds_a_day_and_a_stored_export_is_free(app: Flask, database: Database) -> None:
    Workers(database).report("w", {"toolchain": {"digest": TOOLS, "tools": {}, "formats": {}}})
    people = People(app)
    free = people.user("anna", ["writer"], tier="free")
    model_id = uploaded(free)
    for _ in range(3):
        complete(database, ask(free, model_id).json["id"])
    refused = ask(free, model_id)
    assert refused.json["error"]["details"]["limit"] == "per_day"
    assert 86_000 < int(refused.headers["Retry-After"]) <= 86_400
    assert ask(free, model_id, reuse=True).status_code == 200
    database.export_jobs.update_one({"version": 1}, {"$set": {"created_at": now() - timedelta(hours=25)}})
    assert ask(free, model_id).status_code == 202


def test_a_key_counts_for_its_owner_and_nobody_bounds_the_rest(app: Flask) -> None:
    people = People(app)
    free = people.user("anna", ["writer"], tier="free")
    model_id = uploaded(free)
    assert ask(free, model_id).status_code == 202
    _, key = people.key(["write"], owner="anna")
    assert ask(key, model_id).status_code == 429
    for somebody in (
        people.root,
        people.user("boss", ["writer"]),
        people.user("b", ["writer"], tier="enterprise"),
    ):
        assert [ask(somebody, model_id).status_code for _ in range(4)] == [202] * 4


def test_of_many_requests_at_once_no_more_than_allowed_are_taken(app: Flask, database: Database) -> None:
    people = People(app)
    model_id = uploaded(people.root)
    callers = [people.user("anna", ["writer"], tier="free"), *(people.signed_in("anna") for _ in range(5))]
    statuses: list[int] = []

    def work(somebody: Caller) -> None:
        statuses.append(ask(somebody, model_id).status_code)

    threads = [threading.Thread(target=work, args=(somebody,)) for somebody in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202, 429, 429, 429, 429, 429]


def test_the_packaged_tiers_say_it_where_the_setting_does_not(settings: Settings) -> None:
    people = People(create_app(secured(settings)))
    free, paid = (
        people.user("anna", ["writer"], tier="free"),
        people.user("bert", ["writer"], tier="enterprise"),
    )
    model_id = uploaded(free)
    assert [ask(free, model_id).status_code for _ in range(3)] == [202, 202, 429]
    assert [ask(paid, model_id).status_code for _ in range(3)] == [202] * 3


def test_without_authentication_there_is_a_limit_where_one_is_set(settings: Settings) -> None:
    anybody = Caller(create_app(settings))
    model_id = uploaded(anybody)
    assert [ask(anybody, model_id).status_code for _ in range(4)] == [202] * 4
    limited = settings.model_validate(
        settings.model_dump() | {"default_tier": "free", "export_limits": "free=4/9"}
    )
    assert ask(Caller(create_app(limited)), model_id).status_code == 429
