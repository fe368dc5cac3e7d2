"""The API reference: each operation is explained, its examples are right, and its page asks no other host."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from flask.testing import FlaskClient

BINARY_ALONE = {"GET /api/v1/registry/export"}  # nothing to show but bytes


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").json  # type: ignore[assignment]
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def media(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for body in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from body.get("content", {}).values()


def test_every_operation_has_a_short_summary_and_a_description(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert re.fullmatch(r"[A-Z][^`\n]{5,70}[^.]", operation["summary"]), name
        assert operation["description"].endswith("."), name
        assert "<br/>" not in operation["description"], name
    assert document["info"]["title"] == "Model Service API"


def test_the_summaries_tell_operations_apart(document: dict[str, Any]) -> None:
    by_summary: dict[str, list[str]] = {}
    for name, operation in operations(document):
        by_summary.setdefault(operation["summary"], []).append(name)
    twice = [names for names in by_summary.values() if len(names) > 1]
    # Routes with two paths.
    assert {name.rsplit("/", 1)[1] for names in twice for name in names} == {
        *("cancel", "retry", "set-default", "callback", "statistics")
    }


def test_every_operation_has_an_example_that_its_schema_allows(document: dict[str, Any]) -> None:
    parts = {"components": document["components"]}
    for name, operation in operations(document):
        parameters = operation.get("parameters", [])
        examples = [part for part in (*media(operation), *parameters) if "example" in part]
        assert examples or name in BINARY_ALONE, name
        for part in examples:
            wrong = jsonschema_rs.Draft202012Validator(part["schema"] | parts).iter_errors(part["example"])
            assert [error.message for error in wrong] == [], name


def test_every_json_body_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        bodies = [operation.get("requestBody", {})]
        bodies += [body for status, body in operation["responses"].items() if status.startswith("2")]
        for body in bodies:
            if described := body.get("content", {}).get("application/json"):
                assert "example" in described, name


def test_the_document_is_the_same_at_each_request(http: FlaskClient, document: dict[str, Any]) -> None:
    assert http.get("/openapi.json").json == http.get("/docs/openapi.json").json == document


def test_each_parameter_stands_once(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        parameters = [(each["name"], each["in"]) for each in operation.get("parameters", [])]
        assert len(parameters) == len(set(parameters)), name


def test_each_default_is_a_value_that_its_schema_allows(document: dict[str, Any]) -> None:
    parts = {"components": document["components"]}

    def defaults(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, list):
            for each in schema:
                yield from defaults(each)
        elif isinstance(schema, dict):
            if "default" in schema and schema.keys() & {"type", "anyOf", "$ref"}:
                yield schema
            for key, value in schema.items():
                if key != "example":
                    yield from defaults(value)

    found = list(defaults(document))
    assert len(found) > 20
    for schema in found:
        assert jsonschema_rs.Draft202012Validator(schema | parts).is_valid(schema["default"]), schema


def test_the_page_asks_no_other_host(http: FlaskClient) -> None:
    page = http.get("/docs/scalar").text
    settings = page.partition('data-configuration="')[2].partition('"')[0]
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    loaded = re.findall(r'(?:src|href|data-url)="([^"]+)"', page)
    assert loaded
    assert [url for url in loaded if "//" in url] == []
    for off in ("withDefaultFonts", "telemetry"):
        assert f"&#34;{off}&#34;:false" in settings
    assert "&#34;hideClientButton&#34;:true" in settings
    sources = {source for rule in policy.split("; ") for source in rule.split()[1:] if "//" in source}
    assert sources == {"http://localhost/"}  # the service itself
    assert policy.startswith("default-src 'self'")
    assert "<title>Model Service API</title>" in page
