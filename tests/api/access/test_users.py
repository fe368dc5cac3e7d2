"""Users, and the sessions they open with their passwords."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import jwt
import pytest
from flask import Flask, Response
from prometheus_client import REGISTRY

from model_service.actor import SERVICE, actor
from model_service.app import create_app
from model_service.config import Settings
from model_service.services.access import passwords
from model_service.services.access.principals import REMEMBERED_S
from model_service.storage.common.db import Database
from tests.api.people import PASSWORD, Caller, People, secured
from tests.waiting import wait_for


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(secured(settings))


@pytest.fixture
def people(app: Flask) -> People:
    return People(app)


def test_a_user_from_its_making_to_its_end(people: People, database: Database) -> None:
    made = people.root(
        "POST",
        "/api/v1/users",
        json={"name": "ada", "password": PASSWORD, "roles": ["writer"], "namespaces": {"vision": ["admin"]}},
        status=201,
    ).json
    assert made["name"] == "ada"
    assert made["roles"] == ["writer"]
    assert made["namespaces"] == {"vision": ["admin"]}
    ada = people.signed_in("ada")
    me = ada("GET", "/api/v1/users/me", status=200).json
    assert me["permissions"] == ["read", "write"]
    assert me["namespaces"] == {"vision": ["read", "write", "deploy", "admin"]}

    changed = people.root("PATCH", "/api/v1/users/ada", json={"roles": []}, status=200).json
    assert (changed["roles"], changed["namespaces"]) == ([], made["namespaces"])
    assert people.root("GET", "/api/v1/users/ada", status=200).json == changed
    assert people.root("GET", "/api/v1/users", status=200).json["users"] == [changed]

    people.root("DELETE", "/api/v1/users/ada", status=200)
    people.root("GET", "/api/v1/users/ada", status=404)
    ada("GET", "/api/v1/users/me", status=401)
    stored = json.dumps(list(database.audit.find()), default=str)
    assert PASSWORD not in stored
    actions = [
        (entry["action"], entry["actor"]) for entry in database.audit.find({"kind": "user"}).sort("_id")
    ]
    assert actions == [(done, "administrator") for done in ("created", "updated", "deleted")]


def test_a_password_is_kept_as_a_salted_hash(people: People, database: Database) -> None:
    people.user("ada")
    people.user("bob")
    ada, bob = (database.users.find_one({"_id": name})["password"] for name in ("ada", "bob"))  # type: ignore[index]
    assert ada["salt"] != bob["salt"]
    assert ada["scrypt"] != bob["scrypt"]
    assert PASSWORD.encode() not in ada["scrypt"]
    assert (ada["n"], ada["r"], ada["p"]) == (2**14, 8, 5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "eleven char"}, "password"),
        ({"name": "a/b"}, "name"),
        ({"name": "administrator"}, "name"),
        ({"name": "me"}, "name"),
        ({"roles": ["king"]}, "roles.0"),
        ({"namespaces": {"a/b": ["reader"]}}, "namespaces.a/b.[key]"),
        ({"namespaces": {"a": ["king"]}}, "namespaces.a.0"),
    ],
)
def test_a_wrong_field_is_named_and_no_secret_repeated(
    people: People, fields: dict[str, object], field: str
) -> None:
    body = {"name": "ada", "password": PASSWORD} | fields
    answer = people.root("POST", "/api/v1/users", json=body, status=422)
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]
    assert "eleven char" not in answer.text
    assert PASSWORD not in answer.text


def test_a_name_is_given_once(people: People) -> None:
    people.user("ada")
    again = people.root("POST", "/api/v1/users", json={"name": "ada"}, status=409)
    assert again.json["error"]["code"] == "conflict"
    headers = {"Idempotency-Key": "1"}
    people.root("POST", "/api/v1/users", json={"name": "bob"}, headers=headers, status=201)
    replayed = people.root("POST", "/api/v1/users", json={"name": "bob"}, headers=headers, status=201)
    assert replayed.headers["Idempotency-Replayed"] == "true"


def test_what_is_wrong_at_the_door_is_not_said(people: People) -> None:
    people.user("ada")
    people.root("POST", "/api/v1/users", json={"name": "machine"}, status=201)
    people.root(
        "POST", "/api/v1/users", json={"name": "gone", "password": PASSWORD, "disabled": True}, status=201
    )
    answers = [
        people.nobody("POST", "/api/v1/sessions", json={"user": user, "password": password}, status=401)
        for user, password in [
            ("ada", "another password"),
            ("nobody", PASSWORD),
            ("machine", ""),
            ("gone", PASSWORD),
        ]
    ]
    assert len({answer.json["error"]["message"] for answer in answers}) == 1
    assert all(PASSWORD not in answer.text for answer in answers)


def test_an_unknown_user_costs_as_much_as_a_wrong_password(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.user("ada")
    asked: list[tuple[int, int, int]] = []
    real = passwords._scrypt

    def counted(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
        asked.append((n, r, p))
        return real(password, salt, n, r, p)

    monkeypatch.setattr(passwords, "_scrypt", counted)
    for user in ("ada", "nobody"):
        body = {"user": user, "password": "another password"}
        people.nobody("POST", "/api/v1/sessions", json=body, status=401)
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_a_session_ends_where_it_is_ended(people: People) -> None:
    ada = people.user("ada", ["reader"])
    other = people.signed_in("ada")
    ada("GET", "/api/v1/models", status=200)
    ada("DELETE", "/api/v1/sessions/current", status=200)
    ada("GET", "/api/v1/models", status=401)
    other("GET", "/api/v1/models", status=200)
    people.root("DELETE", "/api/v1/sessions/current", status=403)


@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"password": "quite another one"}, {"password": None}, {"roles": []}]
)
def test_a_change_is_felt_by_every_process_at_once(
    people: People, settings: Settings, change: dict[str, object]
) -> None:
    ada = people.user("ada", ["reader"])
    there = Caller(create_app(secured(settings)), ada.credential)  # another process, as far as memory goes
    there("GET", "/api/v1/models", status=200)
    people.root("PATCH", "/api/v1/users/ada", json=change, status=200)
    refused = 403 if "roles" in change else 401
    ada("GET", "/api/v1/models", status=refused)
    assert REMEMBERED_S <= 2
    wait_for(lambda: there("GET", "/api/v1/models").status_code == refused, "the change is felt")


def test_a_user_that_is_made_again_is_another_one(people: People) -> None:
    ada = people.user("ada", ["reader"])
    people.root("DELETE", "/api/v1/users/ada", status=200)
    people.user("ada", ["admin"])
    ada("GET", "/api/v1/models", status=401)


def test_ones_own_password(people: People) -> None:
    ada = people.user("ada", ["reader"])
    change = {"current_password": "not the present one", "password": "quite another one"}
    ada("POST", "/api/v1/users/me/password", json=change, status=403)
    ada("POST", "/api/v1/users/me/password", json=change | {"current_password": PASSWORD}, status=200)
    ada("GET", "/api/v1/models", status=401)
    people.signed_in("ada", "quite another one")("GET", "/api/v1/models", status=200)
    people.root("POST", "/api/v1/users/me/password", json=change, status=403)


def test_a_forged_token_lets_nobody_in(people: People, app: Flask) -> None:
    people.user("ada", ["admin"])
    signing = app.extensions["model_service"].services.signing
    now = int(datetime.now(UTC).timestamp())
    claims = {"sub": "ada", "jti": "1", "iat": now, "exp": now + 60, "epoch": "x"}
    right = signing.key("session")
    for token in (
        jwt.encode(claims, "0" * 32, algorithm="HS256"),
        jwt.encode(claims, signing.key("download"), algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims | {"exp": now - 1}, right, algorithm="HS256"),
        jwt.encode(claims, right, algorithm="HS256"),  # of another epoch
        jwt.encode({"sub": "ada"}, right, algorithm="HS256"),
        "a.b.c",
        "..",
    ):
        answer = Caller(app, token)("GET", "/api/v1/models", status=401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_answer_is_made_by_whoever_asked_to_its_last_piece(app: Flask) -> None:
    def names() -> Iterator[str]:
        for _ in range(2):
            yield actor().name + " "

    app.add_url_rule("/stream", view_func=lambda: Response(names()))
    people = People(app)
    ada = people.user("ada", ["reader"])
    answer = ada("GET", "/stream", buffered=False)
    assert actor() is SERVICE  # the request is over, its answer is not
    pieces = answer.iter_encoded()
    assert next(pieces) == b"ada "
    assert actor() is SERVICE
    people.root("GET", "/api/v1/models", status=200)
    assert next(pieces) == b"ada "
    answer.close()


def test_tries_at_the_door_are_counted(people: People) -> None:
    def refused() -> float:
        return REGISTRY.get_sample_value("model_service_logins_total", {"outcome": "refused"}) or 0

    before = refused()
    people.nobody("POST", "/api/v1/sessions", json={"user": "x", "password": "y"}, status=401)
    assert refused() == before + 1
