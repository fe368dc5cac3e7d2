"""Keys of the API: what they may do, and how they end."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.access.keys import AccessKeys
from model_service.storage.common.db import Database, now
from tests.api.people import ROOT_KEY, Caller, People, secured
from tests.factories import new_model
from tests.waiting import wait_for


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(secured(settings))


@pytest.fixture
def people(app: Flask) -> People:
    return People(app)


def test_a_key_is_shown_once_and_kept_as_a_hash(people: People, database: Database) -> None:
    body = {"name": "ci", "scopes": ["write"], "namespaces": ["vision"]}
    made: Any = people.root("POST", "/api/v1/keys", json=body, status=201).json
    assert made["key"].startswith(f"ms_{made['prefix']}_")
    assert len(made["key"]) == len("ms_") + 8 + 1 + 43
    shown = people.root("GET", f"/api/v1/keys/{made['id']}", status=200)
    assert shown.json == {field: value for field, value in made.items() if field != "key"}
    assert people.root("GET", "/api/v1/keys", status=200).json["keys"] == [shown.json]
    secret = made["key"].removeprefix(f"ms_{made['prefix']}_")
    for kept in (database.access_keys, database.audit):
        assert secret not in json.dumps(list(kept.find()), default=str)


def test_both_headers_carry_a_key(people: People, app: Flask) -> None:
    made: Any = people.root("POST", "/api/v1/keys", json={"name": "ci", "scopes": ["read"]}).json
    Caller(app, made["key"])("GET", "/api/v1/models", status=200)
    people.nobody("GET", "/api/v1/models", headers={"X-API-Key": made["key"]}, status=200)
    last = made["key"][-1]
    for wrong in (made["key"][:-1] + ("A" if last != "A" else "B"), made["key"][:-1], "ms_00000000_x", "ms_"):
        people.nobody("GET", "/api/v1/models", headers={"X-API-Key": wrong}, status=401)


def test_a_key_may_no_more_than_its_scopes_and_its_owner(people: People) -> None:
    _, reader = people.key(["read"])
    reader("GET", "/api/v1/models", status=200)
    reader("POST", "/api/v1/models", json=new_model(), status=403)
    people.user("ada", ["reader"])
    _, of_ada = people.key(["admin", "write"], owner="ada")
    assert of_ada("GET", "/api/v1/users/me", status=200).json["permissions"] == ["read"]
    of_ada("POST", "/api/v1/models", json=new_model(), status=403)
    people.root("PATCH", "/api/v1/users/ada", json={"roles": ["writer"]}, status=200)
    of_ada("POST", "/api/v1/models", json=new_model(), status=201)
    people.root("PATCH", "/api/v1/users/ada", json={"disabled": True}, status=200)
    of_ada("GET", "/api/v1/models", status=401)


def test_a_key_stays_in_its_namespaces(people: People) -> None:
    _, vision = people.key(["write"], namespaces=["vision"])
    inside: Any = vision("POST", "/api/v1/models", json=new_model(name="vision/a"), status=201).json
    vision("POST", "/api/v1/models", json=new_model(name="audio/a"), status=403)
    vision("POST", "/api/v1/models", json=new_model(), status=403)
    outside: Any = people.root("POST", "/api/v1/models", json=new_model(name="audio/a"), status=201).json
    vision("GET", f"/api/v1/models/{inside['model_id']}", status=200)
    vision("GET", f"/api/v1/models/{outside['model_id']}", status=404)
    vision("DELETE", f"/api/v1/models/{outside['model_id']}", status=404)
    operations = [{"op": "tag", "id": one["model_id"], "tags": ["x"]} for one in (inside, outside)]
    batch: Any = vision("POST", "/api/v1/models/batch", json={"operations": operations}, status=200).json
    assert [result["status"] for result in batch["results"]] == [200, 404]
    listed: Any = vision("GET", "/api/v1/models", status=200).json
    assert [model["id"] for model in listed["models"]] == [inside["model_id"]]
    namespaces: Any = vision("GET", "/api/v1/namespaces", status=200).json
    assert namespaces["namespaces"] == [
        {"namespace": "vision", "models": 1, "size_bytes": 0, "permissions": ["read", "write"]}
    ]
    both: Any = people.root("GET", "/api/v1/namespaces", status=200).json
    assert [one["namespace"] for one in both["namespaces"]] == ["audio", "vision"]


def test_an_expired_key_lets_nobody_in(people: People, database: Database) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    body = {"name": "late", "scopes": ["read"], "expires_at": past}
    people.root("POST", "/api/v1/keys", json=body, status=422)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    key_id, caller = people.key(["read"], expires_at=soon)
    caller("GET", "/api/v1/models", status=200)
    database.access_keys.update_one({"_id": key_id}, {"$set": {"expires_at": now()}})
    wait_for(lambda: caller("GET", "/api/v1/models").status_code == 401, "the key ends")


def test_rotation_ends_the_old_text_at_once_or_after_its_grace(people: People, database: Database) -> None:
    key_id, old = people.key(["read"])
    rotated: Any = people.root("POST", f"/api/v1/keys/{key_id}/rotate", json={}, status=200).json
    old("GET", "/api/v1/models", status=401)
    new = Caller(people.app, rotated["key"])
    new("GET", "/api/v1/models", status=200)

    # A CI renews its own key; both texts work until the grace is over.
    again: Any = new("POST", f"/api/v1/keys/{key_id}/rotate", json={"grace_s": 3600}, status=200).json
    newest = Caller(people.app, again["key"])
    for caller in (new, newest):
        caller("GET", "/api/v1/models", status=200)
    database.access_keys.update_one({"_id": key_id}, {"$set": {"secrets.0.expires_at": now()}})
    wait_for(lambda: new("GET", "/api/v1/models").status_code == 401, "the key ends")
    newest("GET", "/api/v1/models", status=200)


def test_of_two_rotations_at_once_neither_brings_back_what_the_other_ended(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, old = people.key(["read"])
    path = f"/api/v1/keys/{key_id}/rotate"
    set_secrets = AccessKeys.set_secrets
    between: list[Any] = []

    def after_another(self: AccessKeys, *arguments: Any) -> Any:
        if not between:
            between.append(None)
            between[0] = people.root("POST", path, json={}, status=200).json["key"]  # type: ignore[index]
        return set_secrets(self, *arguments)

    monkeypatch.setattr(AccessKeys, "set_secrets", after_another)
    last: Any = people.root("POST", path, json={"grace_s": 3600}, status=200).json
    old("GET", "/api/v1/models", status=401)
    for text in (between[0], last["key"]):
        Caller(people.app, text)("GET", "/api/v1/models", status=200)


def test_a_deleted_key_is_felt_by_every_process(people: People, settings: Settings) -> None:
    key_id, here = people.key(["read"])
    there = Caller(create_app(secured(settings)), here.credential)
    there("GET", "/api/v1/models", status=200)
    people.root("DELETE", f"/api/v1/keys/{key_id}", status=200)
    here("GET", "/api/v1/models", status=401)
    wait_for(lambda: there("GET", "/api/v1/models").status_code == 401, "the key ends")


def test_keys_of_others_are_not_there(people: People) -> None:
    ada, bob = people.user("ada", ["writer"]), people.user("bob", ["reader"])
    made: Any = ada("POST", "/api/v1/keys", json={"name": "mine", "scopes": ["read"]}, status=201).json
    assert made["owner"] == "ada"
    path = f"/api/v1/keys/{made['id']}"
    ada("GET", path, status=200)
    assert ada("GET", "/api/v1/keys", status=200).json["pagination"]["total"] == 1
    assert bob("GET", "/api/v1/keys", status=200).json["keys"] == []
    for method, of_it in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        bob(method, path + of_it, json={}, status=404)
    bob("GET", "/api/v1/keys?owner=ada", status=403)
    bob("POST", "/api/v1/keys", json={"name": "x", "scopes": ["read"], "owner": "ada"}, status=403)
    assert people.root("GET", "/api/v1/keys?owner=ada", status=200).json["keys"][0]["id"] == made["id"]
    people.root("DELETE", path, status=200)
    people.root("POST", "/api/v1/keys", json={"name": "x", "scopes": ["read"], "owner": "eve"}, status=404)


def test_a_key_makes_and_manages_no_other(people: People) -> None:
    people.user("ada", ["writer"])
    _, first = people.key(["write"], owner="ada")
    second_id, second = people.key(["read"], owner="ada")
    first("POST", "/api/v1/keys", json={"name": "x", "scopes": ["read"]}, status=403)
    first("POST", f"/api/v1/keys/{second_id}/rotate", json={}, status=403)
    first("DELETE", f"/api/v1/keys/{second_id}", status=403)
    second("DELETE", f"/api/v1/keys/{second_id}", status=200)
    second("GET", "/api/v1/models", status=401)


def test_the_keys_of_a_user_go_with_it(people: People) -> None:
    people.user("ada", ["reader"])
    _, key = people.key(["read"], owner="ada")
    people.root("DELETE", "/api/v1/users/ada", status=200)
    people.user("ada", ["admin"])
    key("GET", "/api/v1/models", status=401)


def test_the_last_use_is_noted_and_not_with_every_request(people: People, database: Database) -> None:
    key_id, caller = people.key(["read"])
    seen = []
    for _ in range(3):
        caller("GET", "/api/v1/models", status=200)
        people.app.extensions["model_service"].services.keys._forget()  # as a second later
        seen.append(people.root("GET", f"/api/v1/keys/{key_id}", status=200).json["last_used_at"])
    assert seen[0] is not None
    assert len(set(seen)) == 1
    long_ago = now() - timedelta(minutes=2)
    database.access_keys.update_one({"_id": key_id}, {"$set": {"last_used_at": long_ago}})
    caller("GET", "/api/v1/models", status=200)
    assert people.root("GET", f"/api/v1/keys/{key_id}", status=200).json["last_used_at"] > seen[0]


def test_who_changed_what_is_read_by_administrators_alone(people: People) -> None:
    ada = people.user("ada", ["writer"])
    ada("GET", "/api/v1/audit", status=403)
    for name in ("one", "two", "three"):
        ada("POST", "/api/v1/keys", json={"name": name, "scopes": ["read"]}, status=201)
    _, ci = people.key(["write"], owner="ada")
    ci("POST", "/api/v1/models", json=new_model(), headers={"X-Request-ID": "from-the-ci"}, status=201)

    log: Any = people.root("GET", "/api/v1/audit?limit=100", status=200).json
    assert [entry["kind"] for entry in log["entries"]] == ["model", "key", "key", "key", "key", "user"]
    newest = log["entries"][0]
    assert (newest["actor"], newest["request_id"], newest["action"]) == ("ada", "from-the-ci", "created")
    assert newest["key_id"] is not None
    assert log["next_cursor"] is None

    query, names = "?actor=ada&kind=key&limit=2", []
    cursor = ""
    while cursor is not None:
        page: Any = people.root(
            "GET", f"/api/v1/audit{query}{cursor and '&cursor=' + cursor}", status=200
        ).json
        names += [entry["name"] for entry in page["entries"]]
        cursor = page["next_cursor"]
    assert names == ["three", "two", "one"]
    between = {"since": log["entries"][3]["at"], "until": log["entries"][1]["at"]}
    found: Any = people.root("GET", "/api/v1/audit", query_string=between, status=200).json
    assert {entry["name"] for entry in found["entries"]} <= {"one", "two", "three"}
    people.root("GET", "/api/v1/audit?cursor=nonsense", status=422)
    people.root("GET", "/api/v1/audit?subject_id=nothing", status=200)
    assert ROOT_KEY not in json.dumps(log)


def test_a_repeated_request_makes_one_key_and_is_told_it_again(people: People, database: Database) -> None:
    body = {"name": "ci", "scopes": ["read"]}
    first, again = (
        people.root("POST", "/api/v1/keys", json=body, headers={"Idempotency-Key": "once"}, status=201)
        for _ in range(2)
    )
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    made: Any = first.json
    assert database.access_keys.count_documents({}) == 1
    other = people.root("POST", "/api/v1/keys", json=body, headers={"Idempotency-Key": "twice"}, status=201)
    assert other.json["key"].rpartition("_")[2] != made["key"].rpartition("_")[2]  # type: ignore[index]
    people.root("POST", f"/api/v1/keys/{made['id']}/rotate", json={}, status=200)
    people.root("POST", "/api/v1/keys", json=body, headers={"Idempotency-Key": "once"}, status=409)


def made_urls(people: People, caller: Caller) -> tuple[str, str]:
    """Of a new model: a signed URL of its file, and one of a part of an upload."""
    model: Any = people.root("POST", "/api/v1/models", json=new_model()).json
    path = f"/api/v1/models/{model['model_id']}"
    people.root("POST", f"{path}/upload", data=b"weights", status=201)
    download: Any = caller("POST", f"{path}/download/presign", json={}, status=200).json
    upload: Any = caller(
        "POST", f"{path}/uploads", json={"filename": "a.bin", "size_bytes": 1, "with_urls": True}, status=201
    ).json
    return download["url"], upload["missing"][0]["url"]


def answers(people: People, urls: tuple[str, str]) -> tuple[int, int]:
    """What both answer now: to anybody who has them."""
    people.app.extensions["model_service"].services.principals._remembered.forget()
    digest = {"X-Content-SHA256": hashlib.sha256(b"x").hexdigest()}
    return (
        people.nobody("GET", urls[0]).status_code,
        people.nobody("PUT", urls[1], data=b"x", headers=digest).status_code,
    )


def test_a_signed_url_ends_with_the_key_that_made_it(people: People) -> None:
    key_id, caller = people.key(["write"])
    urls = made_urls(people, caller)
    assert answers(people, urls) == (200, 200)
    people.root("DELETE", f"/api/v1/keys/{key_id}", status=200)
    assert answers(people, urls) == (403, 403)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"disabled": True}, (403, 403)),
        ({"roles": []}, (403, 403)),
        ({"roles": ["reader"]}, (200, 403)),
        ({"roles": [], "namespaces": {"other": ["writer"]}}, (404, 404)),
        ({"roles": ["writer"], "password": None}, (200, 200)),
    ],
)
def test_a_signed_url_allows_what_its_maker_may_do_now(
    people: People, change: dict[str, Any], left: tuple[int, int]
) -> None:
    urls = made_urls(people, people.user("ada", ["writer"]))
    assert answers(people, urls) == (200, 200)
    people.root("PATCH", "/api/v1/users/ada", json=change, status=200)
    assert answers(people, urls) == left


def test_a_signed_url_ends_with_the_user_who_made_it(people: People) -> None:
    urls = made_urls(people, people.user("ada", ["writer"]))
    people.root("DELETE", "/api/v1/users/ada", status=200)
    assert answers(people, urls) == (403, 403)
    assert (
        people.nobody("GET", urls[0].replace("by=user%3Aada", "by=user%3Aadministrator")).status_code == 403
    )


def test_a_signed_url_of_the_administrator_ends_with_api_key(people: People, settings: Settings) -> None:
    urls = made_urls(people, people.root)
    assert answers(people, urls) == (200, 200)
    rotated = create_app(secured(settings, api_key="another horse battery staple"))
    assert Caller(rotated)("GET", urls[0]).status_code == 403


def test_wrong_keys_are_slowed_and_right_ones_are_not(settings: Settings) -> None:
    app = create_app(secured(settings, rate_limits="on"))
    wrong, right = Caller(app, "ms_00000000_x"), Caller(app, ROOT_KEY)
    answers = [wrong("GET", "/api/v1/models") for _ in range(140)]
    assert [answer.status_code for answer in answers] == [401] * 60 + [429] * 80
    refused: Any = answers[-1]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json["error"]["code"] == "rate_limited"
    right("GET", "/api/v1/models", status=200)
    Caller(app)("GET", "/api/v1/models", status=401)
    elsewhere: Any = {"REMOTE_ADDR": "192.0.2.1"}
    wrong("GET", "/api/v1/models", environ_overrides=elsewhere, status=401)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/v1/models", new_model()),
        ("/api/v1/datasets", {"name": "digits"}),
        ("/api/v1/training", {"name": "run", "algorithm": "a"}),
    ],
)
def test_created_by_is_the_caller(people: People, settings: Settings, path: str, fields: Any) -> None:
    body = fields | {"created_by": "somebody else"}

    def created_by(caller: Caller) -> Any:
        made: Any = caller("POST", path, json=body, status=201).json
        found: Any = caller("GET", f"{path}/{made.get('model_id') or made['id']}", status=200).json
        return found["created_by"]

    ada = people.user("ada", ["writer"])
    assert created_by(ada) == "ada"
    assert created_by(people.key(["write"])[1]) == "administrator"
    assert created_by(Caller(create_app(settings))) == "somebody else"


def test_a_new_version_is_the_callers_too(people: People) -> None:
    made: Any = people.root("POST", "/api/v1/models", json=new_model(created_by="x"), status=201).json
    ada = people.user("ada", ["writer"])
    url = f"/api/v1/models/{made['model_id']}/versions"
    version: Any = ada("POST", url, json={"created_by": "grace"}, status=201).json
    found: Any = ada("GET", f"/api/v1/models/{version['model_id']}").json
    assert found["created_by"] == "ada"
