import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.deployed import URL, deploy, events, exported


@pytest.fixture
def keys(http: FlaskClient, database: Database) -> str:
    """The URL of a deployment's keys."""
    return f"{URL}/{deploy(http, export_job_id=exported(http, database))['id']}/keys"


def listed(http: FlaskClient, keys: str) -> list[dict[str, Any]]:
    return list(http.get(keys).json["keys"])  # type: ignore[index]


def test_a_new_key_is_told_once_and_served_as_a_hash(
    http: FlaskClient, keys: str, database: Database
) -> None:
    made = http.post(keys, json={"name": "for the app"})
    assert made.status_code == 201
    key = dict(made.json)
    text = key.pop("key")
    assert (key["name"], key["prefix"], key["expires_at"]) == ("for the app", text[:10], None)
    assert [each["name"] for each in listed(http, keys)] == ["for the app", "default"]
    assert listed(http, keys)[0] == key
    (served,) = build_stores(database).served_deployments.read()
    assert hashlib.sha256(text.encode()).hexdigest() in {each["sha256"] for each in served["keys"]}
    assert text not in str(served)


def test_a_repeated_request_makes_one_key_and_tells_it_again(http: FlaskClient, keys: str) -> None:
    once = {"Idempotency-Key": "one"}
    first, second = (http.post(keys, json={"name": "x"}, headers=once) for _ in range(2))
    assert (second.status_code, second.json) == (201, first.json)
    assert len(listed(http, keys)) == 2


def test_rotation_gives_the_old_key_an_end_and_makes_a_new_one(http: FlaskClient, keys: str) -> None:
    (old,) = listed(http, keys)
    once = {"Idempotency-Key": "one"}
    rotate = f"{keys}/{old['id']}/rotate"
    first, second = (http.post(rotate, json={"grace_s": 60}, headers=once) for _ in range(2))
    assert first.status_code == 201
    assert second.json == first.json
    new, ending = listed(http, keys)
    assert (new["id"], new["name"], new["expires_at"]) == (first.json["id"], "default", None)
    assert ending["id"] == old["id"]
    left = datetime.fromisoformat(ending["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=0) < left <= timedelta(seconds=60)
    assert http.post(rotate, json={}).status_code == 409
    assert events(http, keys.split("/")[-2]) == ["created", "key_rotated"]


def test_without_a_grace_the_old_key_ends_now(http: FlaskClient, keys: str) -> None:
    (old,) = listed(http, keys)
    assert http.post(f"{keys}/{old['id']}/rotate", json={}).status_code == 201
    ended = next(each for each in listed(http, keys) if each["id"] == old["id"])
    assert datetime.fromisoformat(ended["expires_at"]) <= datetime.now(UTC)


def test_a_rotation_lengthens_no_life(http: FlaskClient, keys: str) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = http.post(keys, json={"name": "x", "expires_at": soon.isoformat()}).json
    new = http.post(f"{keys}/{made['id']}/rotate", json={"grace_s": 7200}).json
    old = next(each for each in listed(http, keys) if each["id"] == made["id"])
    assert [datetime.fromisoformat(each["expires_at"]) for each in (new, old)] == [soon, soon]


def test_a_revoked_key_is_gone_at_once(http: FlaskClient, keys: str, database: Database) -> None:
    (key,) = listed(http, keys)
    assert http.delete(f"{keys}/{key['id']}").json["deleted_id"] == key["id"]
    assert listed(http, keys) == []
    assert build_stores(database).served_deployments.read()[0]["keys"] == []
    assert http.delete(f"{keys}/{key['id']}").status_code == 404
    assert http.post(f"{keys}/{key['id']}/rotate", json={}).status_code == 404
    history = http.get(f"{keys.removesuffix('/keys')}/history?event_type=key_revoked").json["history"]
    assert history[0]["event_data"] == {"key_id": key["id"], "name": "default", "prefix": key["prefix"]}


def test_a_key_of_another_deployment_is_not_found(http: FlaskClient, keys: str, database: Database) -> None:
    (key,) = listed(http, keys)
    other = deploy(http, export_job_id=exported(http, database))["id"]
    assert http.delete(f"{URL}/{other}/keys/{key['id']}").status_code == 404
    assert len(listed(http, keys)) == 1


@pytest.mark.parametrize("end", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_key_has_a_future_in_this_calendar(http: FlaskClient, keys: str, end: str) -> None:
    answer = http.post(keys, json={"name": "x", "expires_at": end})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
