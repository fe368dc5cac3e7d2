import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.models.test_versions import MODELS, register
from tests.factories import new_model


def send(http: FlaskClient, key: str, path: str = MODELS, **fields: Any) -> Any:
    body = new_model(**fields) if path == MODELS else fields
    return http.post(path, json=body, headers={"Idempotency-Key": key})


def total(http: FlaskClient) -> int:
    return int(http.get(MODELS).json["pagination"]["total"])


@pytest.mark.parametrize("version", [None, "v3.0"])
def test_a_repeated_registration_makes_one_version(http: FlaskClient, version: str | None) -> None:
    key = str(uuid.uuid4())
    first, second = send(http, key, version=version), send(http, key, version=version)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json == first.json
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert total(http) == 1
    assert send(http, str(uuid.uuid4())).json["model_id"] != first.json["model_id"]


def test_a_key_belongs_to_its_request(http: FlaskClient) -> None:
    send(http, "k")
    other = send(http, "k", tags=["x"])
    assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    base = register(http)
    versions = f"{MODELS}/{base}/versions"
    made = send(http, "k", versions, tags=["x"])  # another route: another request
    assert (made.status_code, "Idempotency-Replayed" in made.headers) == (201, False)
    again = send(http, "k", versions, tags=["x"])
    assert (again.json, again.headers["Idempotency-Replayed"]) == (made.json, "true")


def test_the_order_of_a_bodys_fields_is_no_difference(http: FlaskClient) -> None:
    body = new_model()
    first = http.post(MODELS, json=body, headers={"Idempotency-Key": "k"})
    turned = dict(reversed(body.items()))
    assert http.post(MODELS, json=turned, headers={"Idempotency-Key": "k"}).json == first.json


def test_a_request_that_failed_may_be_sent_again(http: FlaskClient) -> None:
    assert send(http, "k", parent_model_id="models:/parent/latest").status_code == 404
    register(http, name="parent")
    made = send(http, "k", parent_model_id="models:/parent/latest")
    assert (made.status_code, "Idempotency-Replayed" in made.headers) == (201, False)
    assert send(http, "k", version="v1.x").status_code == 422


@pytest.mark.parametrize("version", [None, "v3.0"])
def test_of_the_same_request_at_once_one_creates(app: Flask, http: FlaskClient, version: str | None) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(app.test_client(), "k", version=version), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["model_id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert total(http) == 1


@pytest.mark.parametrize("key", ["", "a b", "ä", "k" * 256])
def test_a_key_is_plain(http: FlaskClient, key: str) -> None:
    answer = send(http, key)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_request")
