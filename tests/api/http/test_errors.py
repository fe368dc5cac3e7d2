"""Bad input: a status, a code, a sentence and the field, and never a traceback."""

import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.errors import ServerSelectionTimeoutError

from model_service.app import create_app
from model_service.config import Settings
from tests.factories import new_model

UNKNOWN_UUID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/models/507f1f77bcf86cd799439011", 404, "not_found"),
        ("/api/v1/models/not-an-id", 400, "malformed_id"),
        (f"/api/v1/export/jobs/{UNKNOWN_UUID}", 404, "not_found"),
        ("/api/v1/export/jobs/not-an-id", 400, "malformed_id"),
        ("/api/v1/export/jobs?model_id=not-an-id", 400, "malformed_id"),
        (f"/api/v1/deployments/{UNKNOWN_UUID}", 404, "not_found"),
        ("/api/v1/deployments/not-an-id", 404, "not_found"),
        ("/api/v1/models?limit=101", 422, "invalid_field"),
        ("/api/v1/models?page=0", 422, "invalid_field"),
        ("/api/v1/models?status=odd", 422, "invalid_field"),
        ("/api/v1/models?colour=red", 422, "invalid_field"),
        ("/nowhere", 404, "not_found"),
    ],
)
def test_reads(http: FlaskClient, path: str, status: int, code: str) -> None:
    answer = http.get(path, headers={"X-Request-ID": "abc-1"})
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert answer.json["success"] is False
    assert answer.json["request_id"] == answer.headers["X-Request-ID"] == "abc-1"


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/export/jobs", "/api/v1/deployments"])
def test_bodies_that_are_not_json(http: FlaskClient, path: str) -> None:
    for body, content_type in [
        (b"{half", "application/json"),
        (b"", "application/json"),
        (b"[1]", "application/json"),
        (b'"text"', "application/json"),
        (b'{"name": NaN}', "application/json"),
        (b"{}", "text/plain"),
    ]:
        answer = http.post(path, data=body, content_type=content_type)
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_json"), body


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "../etc"}, "name"),
        ({"name": None}, "name"),
        ({"algorithm": ""}, "algorithm"),
        ({"version": "one"}, "version"),
        ({"metrics": 3}, "metrics"),
        ({"metrics": {"a": 2**63}}, "metrics.a"),
        ({"metrics": {"a\0b": 1}}, "metrics"),
        ({"metrics": {"a": {"$ref": "models", "$id": 1}}}, "metrics"),
        ({"hyperparameters": {"a": [1] * 100_000}}, "hyperparameters"),
        ({"version": "v01.0"}, "version"),
        ({"version": "v\uff11"}, "version"),
        ({"tags": ["a", 3]}, "tags.1"),
        ({"status": "odd"}, "status"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(http: FlaskClient, fields: dict[str, object], field: str) -> None:
    answer = http.post("/api/v1/models", json=new_model(**fields))
    assert answer.status_code == 422
    assert [found["field"] for found in answer.json["error"]["details"]["fields"]] == [field]
    assert http.get("/api/v1/models").json["models"] == []


def test_json_nested_past_any_use_is_refused(http: FlaskClient) -> None:
    for depth in (40, 100_000):
        body = '{"name": "m", "algorithm": "a", "metrics": ' + '{"a":' * depth + "1" + "}" * depth + "}"
        answer = http.post("/api/v1/models", data=body, content_type="application/json")
        assert answer.status_code in (400, 422)


def test_a_huge_json_body_is_refused(http: FlaskClient) -> None:
    answer = http.post("/api/v1/models", json=new_model(description="x" * 5_000_000))
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "request_entity_too_large")


def test_the_unexpected_shows_no_traceback(app: Flask) -> None:
    logging.disable(logging.CRITICAL)

    def explode() -> None:
        raise RuntimeError("secret of the house")

    app.add_url_rule("/explode", view_func=explode)
    answer = app.test_client().get("/explode")
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_a_lost_database_is_503_with_retry_after(app: Flask) -> None:
    def lose() -> None:
        raise ServerSelectionTimeoutError("mongodb://user:password@host")

    app.add_url_rule("/lose", view_func=lose)
    answer = app.test_client().get("/lose")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "password" not in answer.text


def test_with_auth_only_the_key_gets_in(settings: Settings) -> None:
    key = "correct horse battery"
    secured = settings.model_validate(settings.model_dump() | {"enable_auth": True, "api_key": key})
    http = create_app(secured).test_client()
    for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Basic {key}"}, {"X-API-Key": "ключ"}):
        answer = http.get("/api/v1/models", headers=headers)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized")
    assert http.get("/api/v1/models", headers={"X-API-Key": key}).status_code == 200
    assert http.get("/api/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "doubt"),
    [
        ("GET", "/api/v1/models", False),
        ("HEAD", "/api/v1/models", False),
        ("POST", f"/api/v1/models/{'0' * 24}/download/presign", False),
        ("POST", "/api/v1/models", True),
        ("DELETE", f"/api/v1/models/{'0' * 24}", True),
    ],
)
def test_a_read_that_the_database_fails_says_nothing_of_a_change(
    app: Flask, method: str, path: str, doubt: bool
) -> None:
    with app.test_request_context(path, method=method):
        app.preprocess_request()
        answer: Any = app.handle_user_exception(ServerSelectionTimeoutError("no server"))
    assert answer.status_code == 503
    assert ("change" in answer.json["error"]["message"]) is doubt


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "a", "algorithm": "b", "tag": ["x"]}, ["tag: there is no such field", "'tags'", "metrics"]),
        ({"name": "a", "algorithm": "b", "zzz": 1}, ["zzz: there is no such field", "algorithm, "]),
    ],
)
def test_an_unknown_field_is_told_what_fields_there_are(
    http: FlaskClient, body: dict[str, Any], words: list[str]
) -> None:
    answer = http.post("/api/v1/models", json=body)
    assert answer.status_code == 422
    message = answer.json["error"]["message"]  # type: ignore[index]
    assert all(word in message for word in words), message
    assert "Extra inputs" not in message


@pytest.mark.parametrize("path", ["/api/v1/models/batch", "/api/v1/models/deleted", "/api/v1/users/me"])
def test_a_path_without_parameters_is_no_id(http: FlaskClient, path: str) -> None:
    allowed = "OPTIONS, POST" if path.endswith("batch") else "GET, HEAD, OPTIONS"
    refused = http.open(path, method="DELETE")
    assert (refused.status_code, set(refused.headers["Allow"].split(", "))) == (405, set(allowed.split(", ")))
    assert http.open(path, method="OPTIONS").headers["Allow"] == allowed
