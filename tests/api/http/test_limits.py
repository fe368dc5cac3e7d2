"""How often anybody may call."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis import Redis

from model_service.app import create_app
from model_service.config import Settings, read_settings
from model_service.embedded import redis
from model_service.embedded.ports import remembered_port
from tests.api.people import PASSWORD, Caller, People, secured
from tests.factories import new_model
from tests.waiting import wait_for

MODELS = "/api/v1/models"


def limited(settings: Settings, **changes: Any) -> Flask:
    """An application that counts; what its administrator does to set a test up is counted too."""
    return create_app(secured(settings, rate_limits="on", **changes))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_past_the_limit_is_429_with_the_time_to_wait(settings: Settings) -> None:
    people = People(limited(settings, rate_limit_read="3 per hour"))
    ada, bob = people.user("ada", ["reader"]), people.user("bob", ["reader"])
    for remaining in ("2", "1", "0"):
        answer = ada("GET", MODELS, status=200)
        assert answer.headers["X-RateLimit-Limit"] == "3"
        assert answer.headers["X-RateLimit-Remaining"] == remaining
        assert "Retry-After" not in answer.headers
    refused = ada("GET", MODELS, status=429)
    assert refused.json["error"]["code"] == "rate_limited"
    assert refused.json["error"]["details"]["limit"] == "3 per 1 hour"
    assert 3500 < int(refused.headers["Retry-After"]) <= 3601
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["X-Request-ID"] == refused.json["request_id"]
    # Others, and other routes, are counted apart; probes are not counted.
    bob("GET", MODELS, status=200)
    ada("GET", f"{MODELS}/statistics", status=200)
    for _ in range(5):
        assert "X-RateLimit-Limit" not in people.nobody("GET", "/health/live", status=200).headers


def test_keys_are_counted_apart_and_processes_together(settings: Settings) -> None:
    people = People(limited(settings, rate_limit_read="2 per hour"))
    _, one = people.key(["read"])
    _, two = people.key(["read"])
    elsewhere = Caller(limited(settings, rate_limit_read="2 per hour"), one.credential)
    one("GET", MODELS, status=200)
    elsewhere("GET", MODELS, status=200)
    one("GET", MODELS, status=429)
    elsewhere("GET", MODELS, status=429)
    two("GET", MODELS, status=200)


def test_a_download_is_counted_once_however_it_is_sent(settings: Settings) -> None:
    root = People(limited(settings, rate_limit_download="2 per hour", rate_limit_parts="4 per hour")).root
    made: Any = root("POST", MODELS, json=new_model(), status=201).json
    root("POST", f"{MODELS}/{made['model_id']}/upload", data=b"0123456789", status=201)
    download = f"{MODELS}/{made['model_id']}/download"
    root("GET", download, headers={"Range": "bytes=0-4"}, status=206)
    for _ in range(4):
        root("GET", download, headers={"Range": "bytes=5-"}, status=206)
    root("GET", download, headers={"Range": "bytes=5-"}, status=429)
    for _ in range(5):
        root("HEAD", download, status=200)
    root("GET", download, status=200)
    for begins_anew in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-5"}, {"Range": "bytes=1-2,4-5"}):
        root("GET", download, headers=begins_anew, status=429)


def test_transfers_are_counted_by_their_bytes(settings: Settings) -> None:
    people = People(limited(settings, rate_limit_bytes="1KB per hour"))
    model: Any = people.root("POST", MODELS, json=new_model(), status=201).json
    url = f"{MODELS}/{model['model_id']}"
    people.root("POST", f"{url}/upload", data=b"x" * 400, status=201)
    people.root("GET", f"{url}/download", status=200)
    people.root("HEAD", f"{url}/download", status=200)
    # The last one that begins within the budget is let through; nothing else is slowed down.
    people.root("GET", f"{url}/download", headers={"Range": "bytes=0-299"}, status=206)
    refused = people.root("PUT", f"{url}/files/b.bin", data=b"y", status=429)
    assert refused.json["error"]["details"]["limit"] == "1e-06 GB per 1 hour"
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    people.root("GET", f"{url}/download", status=429)
    people.root("GET", url, status=200)
    people.key(["read"])[1]("GET", f"{url}/download", status=200)


def test_reads_polls_and_changes_have_budgets_of_their_own(settings: Settings) -> None:
    limits = {"rate_limit_read": "1 per hour", "rate_limit_poll": "2 per hour"}
    root = People(limited(settings, **limits, rate_limit_default="3 per hour")).root
    calls = (("GET", MODELS, 1), ("GET", "/api/v1/deployments", 2), ("POST", MODELS, 3))
    for method, path, allowed in calls:
        given = {"json": new_model()} if method == "POST" else {}
        answers = [root(method, path, **given).status_code for _ in range(allowed + 1)]
        assert [code < 300 for code in answers] == [True] * allowed + [False]
        assert answers[-1] == 429


def test_tries_at_the_door_are_counted_by_address(settings: Settings) -> None:
    app = limited(settings, rate_limit_login="3 per hour", trusted_proxies=1)
    people = People(app)
    people.root("POST", "/api/v1/users", json={"name": "ada", "password": PASSWORD}, status=201)

    def attempt(address: str, user: str) -> int:
        headers = {"X-Forwarded-For": f"10.9.9.9, {address}"}  # the first is what the client made up
        body = {"user": user, "password": "wrong"}
        return people.nobody("POST", "/api/v1/sessions", json=body, headers=headers).status_code

    assert [attempt("10.0.0.1", user) for user in ("ada", "bob", "eve", "ada")] == [401, 401, 401, 429]
    assert attempt("10.0.0.2", "ada") == 401


def test_without_trusted_proxies_nobody_chooses_an_address(settings: Settings) -> None:
    people = People(limited(settings, rate_limit_login="2 per hour"))
    body = {"user": "ada", "password": "wrong"}
    answers = [
        people.nobody("POST", "/api/v1/sessions", json=body, headers={"X-Forwarded-For": f"10.0.0.{n}"})
        for n in range(3)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 429]


def test_a_request_costs_one_trip_to_redis(settings: Settings) -> None:
    root = People(limited(settings)).root
    assert settings.redis_url is not None
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        root("GET", MODELS, status=200)  # loads the script

        def calls() -> dict[str, int]:
            stats = client.info("commandstats")
            return {
                name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "get", "ttl")
            }

        before = calls()
        for _ in range(3):
            root("GET", MODELS, status=200)
        assert {name: calls()[name] - before[name] for name in before} == {"evalsha": 3, "get": 0, "ttl": 0}


def test_a_window_ends(settings: Settings) -> None:
    root = People(limited(settings, rate_limit_read="1 per hour")).root
    root("GET", MODELS, status=200)
    root("GET", MODELS, status=429)
    assert settings.redis_url is not None
    with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        (key,) = client.keys("*list_models*")
        assert 0 < client.ttl(key) <= 3600
        client.persist(key)  # as if its end had been lost: it gets another one
        root("GET", MODELS, status=429)
        assert 0 < client.ttl(key) <= 3600
        client.delete(key)
    root("GET", MODELS, status=200)


@pytest.mark.parametrize("silent", [False, True])
def test_without_redis_everybody_is_answered_and_still_counted(
    settings: Settings, silent_port: int, silent: bool
) -> None:
    url = f"redis://127.0.0.1:{silent_port if silent else 1}/0"
    root = People(limited(settings, redis_url=url, rate_limit_read="3 per hour")).root
    answers = [root("GET", MODELS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_redis_may_die_and_come_back(settings: Settings, tmp_path: Path) -> None:
    port = remembered_port(tmp_path / "port")

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(redis.argv(tmp_path / "redis", port), stdout=subprocess.DEVNULL)
        wait_for(lambda: redis.answers(port), "Redis answers")
        return process

    root = People(limited(settings, redis_url=redis.url(port), rate_limit_read="1000 per hour")).root

    def counted() -> int:
        with Redis.from_url(redis.url(port)) as client:
            return sum(int(client.get(key)) for key in client.keys("*list_models*"))

    first = start()
    try:
        root("GET", MODELS, status=200)
        assert counted() == 1
    finally:
        first.kill()
        first.wait()
    for _ in range(3):
        root("GET", MODELS, status=200)
    second = start()
    try:
        before = counted()
        # flask-limiter looks for it again after 1, 2, 4 … seconds.
        wait_for(lambda: root("GET", MODELS, status=200) and counted() > before, "Redis counts again")
    finally:
        second.kill()
        second.wait()


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({}, False),
        ({"enable_auth": True, "api_key": "0123456789abcdef"}, True),
        ({"host": "0.0.0.0", "allow_anonymous": True}, True),
        ({"host": "0.0.0.0", "allow_anonymous": True, "rate_limits": "off"}, False),
        ({"rate_limits": "on"}, True),
    ],
)
def test_who_is_counted_unless_it_is_said(fields: dict[str, Any], counted: bool) -> None:
    assert read_settings(**fields).limits_rates is counted
