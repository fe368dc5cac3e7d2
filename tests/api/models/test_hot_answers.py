"""What one process has changed, every process answers with at once, however often it was asked before."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from model_service.app import create_app
from model_service.config import Settings
from model_service.embedded import Addresses


@pytest.fixture
def http(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def other(settings: Settings) -> FlaskClient:
    """Of another API process on the same MongoDB and Redis."""
    return create_app(settings).test_client()


def get(http: FlaskClient, model_id: str) -> dict[str, Any] | None:
    """The model as it is answered; None when it is not there."""
    answer = http.get(f"/api/v1/models/{model_id}")
    assert answer.status_code in {200, 404}
    if answer.status_code == 404:
        return None
    found: dict[str, Any] = answer.json  # type: ignore[assignment]
    assert answer.headers["ETag"] == f'"r{found["revision"]}"'
    return found


def warm(http: FlaskClient, model_id: str, servers: Addresses) -> None:
    for _ in range(3):
        get(http, model_id)
    with Redis.from_url(servers.redis_url) as redis:
        [key] = redis.keys(f"*:{model_id}")
        stored = redis.get(key)
    assert isinstance(stored, bytes)
    assert stored.startswith(b"="), "the answer is not cached"


def test_every_change_is_seen_through_another_process(
    http: FlaskClient, other: FlaskClient, model_id: str, servers: Addresses
) -> None:
    model = f"/api/v1/models/{model_id}"
    changes: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("PATCH", model, {"json": {"description": "new"}}, {"description": "new"}),
        ("PUT", model, {"json": {"tags": ["a"]}}, {"tags": ["a"]}),
        ("PUT", f"{model}/aliases/production", {}, {"aliases": ["production"]}),
        ("DELETE", f"{model}/aliases/production", {}, {"aliases": []}),
        ("POST", f"{model}/upload", {"data": b"weights"}, {"size_bytes": 7}),
        ("PUT", f"{model}/files/more.txt", {"data": b"more"}, {"size_bytes": 11}),
        ("GET", f"{model}/download", {}, {"download_count": 1}),
        ("DELETE", f"{model}/files/more.txt", {}, {"size_bytes": 7}),
        (
            "POST",
            "/api/v1/models/batch",
            {"json": {"operations": [{"op": "status", "id": model_id, "status": "deprecated"}]}},
            {"status": "deprecated"},
        ),
    ]
    for method, path, body, shown in changes:
        warm(other, model_id, servers)
        answer = http.open(path, method=method, **body)
        assert answer.status_code < 300, answer.json
        answer.close()
        found = get(other, model_id)
        assert found is not None
        assert {name: found[name] for name in shown} == shown, (method, path)


def test_a_deleted_model_is_gone_everywhere_and_comes_back(
    http: FlaskClient, other: FlaskClient, model_id: str, servers: Addresses
) -> None:
    warm(other, model_id, servers)
    http.delete(f"/api/v1/models/{model_id}")
    assert get(other, model_id) is None
    assert http.post(f"/api/v1/models/{model_id}/restore").status_code == 200
    warm(other, model_id, servers)
    http.delete(f"/api/v1/models/{model_id}?purge=true")
    assert get(other, model_id) is None


def test_the_version_that_loses_an_alias_is_seen_without_it(
    http: FlaskClient, other: FlaskClient, model_id: str, servers: Addresses
) -> None:
    second = http.post(f"/api/v1/models/{model_id}/versions", json={}).json["model_id"]  # type: ignore[index]
    http.put(f"/api/v1/models/{model_id}/aliases/production")
    warm(other, model_id, servers)
    http.put(f"/api/v1/models/{second}/aliases/production")
    found = get(other, model_id)
    assert found is not None
    assert found["aliases"] == []


def test_a_cached_answer_is_not_modified_for_who_has_it(
    http: FlaskClient, model_id: str, servers: Addresses
) -> None:
    warm(http, model_id, servers)
    tag = http.get(f"/api/v1/models/{model_id}").headers["ETag"]
    assert http.get(f"/api/v1/models/{model_id}", headers={"If-None-Match": tag}).status_code == 304
