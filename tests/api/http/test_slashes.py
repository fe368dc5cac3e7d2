"""A path with a slash at its end is the path without it: for every route, and whoever calls."""

import re
import uuid
from typing import Any

import pytest
from flask import Flask

from model_service.app import create_app
from model_service.config import Settings
from tests.api.people import People, secured

OPEN = ["/docs", "/docs/scalar", "/docs/openapi.json", "/openapi.json", "/health", "/health/live", "/metrics"]


@pytest.fixture
def people(settings: Settings) -> People:
    return People(create_app(secured(settings)))


def paths(app: Flask) -> list[tuple[str, str]]:
    """Every route as a method and a path of things that are not there."""
    found = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*\bfilename>", "js/scalar.standalone.js", rule.rule)
        path = re.sub(r"<[^>]*\bn>", "1", path)
        path = re.sub(r"<[^>]*>", str(uuid.uuid4()), path)
        found |= {(method, path.rstrip("/")) for method in rule.methods or () if path != "/"}
    return sorted(found)


def test_every_route_asks_for_a_key_alike(people: People) -> None:
    differing = []
    for method, path in paths(people.app):
        plain, slashed = (people.nobody(method, each).status_code for each in (path, f"{path}/"))
        if plain != slashed:
            differing.append(f"{method} {path}: {plain}, with a slash {slashed}")
    assert differing == []


def test_every_route_is_found_alike(people: People) -> None:
    for method, path in paths(people.app):
        if method in {"GET", "HEAD", "OPTIONS"}:
            plain, slashed = (people.root(method, each) for each in (path, f"{path}/"))
            assert plain.status_code == slashed.status_code, f"{method} {path}"
            assert plain.content_type == slashed.content_type, f"{method} {path}"


@pytest.mark.parametrize("path", [*OPEN, *(f"{path}/" for path in OPEN)])
def test_what_is_open_needs_no_key(people: People, path: str) -> None:
    people.nobody("GET", path, status=200)
    people.nobody("HEAD", path, status=200)


def test_changes_are_made_with_a_slash_too(people: People) -> None:
    made: Any = people.root("POST", "/api/v1/models/", json={"name": "a", "algorithm": "cnn"}, status=201)
    people.root("PATCH", f"/api/v1/models/{made.json['model_id']}/", json={"description": "x"}, status=200)
    people.root("DELETE", f"/api/v1/models/{made.json['model_id']}/", status=200)


def test_doubled_slashes_lead_to_the_route(people: People) -> None:
    answer = people.nobody("GET", "/health//live?q=%2F", status=308)
    assert answer.headers["Location"] == "/health/live?q=%2F"
    people.nobody("GET", "/api//v2//nothing", status=401)
