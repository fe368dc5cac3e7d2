"""NUL, halves of surrogate pairs and bytes that are not UTF-8 are refused by their place in the request."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import new_model

NOT_TEXT = ["%00", "a%00b", "%ff", "%ed%a0%80"]
# Text, but nothing that any parameter is meant to be.
ODD = ["$where", "..", ".", "a.$b", "%F0%9F%98%80", "9" * 30, "1e400", "-1", "%7B%22$gt%22:0%7D", "x" * 6000]
HEADERS = {
    "If-Match": '"\xff"',
    "If-None-Match": '"\xff\x80"',
    "If-Range": "\xed\xa0\x80",
    "Range": "bytes=" + "9" * 40 + "-",
    "Idempotency-Key": "\xff",
    "X-Filename": "UTF-8''%00.onnx",
    "X-Content-SHA256": "\xff" * 64,
    "X-API-Key": "\xed\xa0\x80",
    "Authorization": "Bearer \xff",
    "X-Request-ID": "\xff" * 300,
    "Last-Event-ID": "9" * 400,
    "Origin": "\xff",
    "Content-Type": "application/json; charset=\xff",
    "X-Callback-Token": "\xff",
    "X-Forwarded-Host": "\xff",
    "Accept": "\xff",
}


def operations(app: Flask) -> list[tuple[str, str, list[dict[str, Any]]]]:
    document = app.test_client().get("/openapi.json").get_json()
    return [
        (method.upper(), path, operation.get("parameters", []))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def concrete(path: str, model_id: str, given: dict[str, str] | None = None) -> str:
    for name, value in {"model_id": model_id, "path": "model.bin", "n": "1", **(given or {})}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")


def ask(http: FlaskClient, method: str, url: str, **headers: str) -> Any:
    """The client sends the path as it is written here, so that it can be no text."""
    return http.open(url, method=method, headers=headers)


@pytest.mark.parametrize("wrong", NOT_TEXT)
def test_no_path_or_query_of_any_route_takes_what_is_no_text(app: Flask, model_id: str, wrong: str) -> None:
    http = app.test_client()
    failures = []
    for method, path, parameters in operations(app):
        for name in [each["name"] for each in parameters if each["in"] == "path"]:
            answer = ask(http, method, concrete(path, model_id, {name: wrong}))
            failures += _unless_refused(answer, "path", method, path, name)
        url = concrete(path, model_id)
        for name in [each["name"] for each in parameters if each["in"] == "query"] + ["unknown"]:
            failures += _unless_refused(
                ask(http, method, f"{url}?a=1&{name}={wrong}"), name, method, path, name
            )
        answer = ask(http, method, f"{url}?min_{wrong}=1")
        failures += _unless_refused(answer, "min_", method, path, "min_")
    assert not failures


def request_path(answer: Any) -> str:
    return str(answer.request.path)


def _unless_refused(answer: Any, field: str, *told: str) -> list[Any]:
    """HTTP servers replace what is not UTF-8 in a path: then it names nothing that exists."""
    named = [
        each["field"] for each in (answer.json or {}).get("error", {}).get("details", {}).get("fields", [])
    ]
    if field == "path" and "\0" not in request_path(answer) and 400 <= answer.status_code < 500:
        return []
    if answer.status_code == 422 and len(named) == 1 and named[0].startswith(field):
        return []
    return [(*told, answer.status_code, answer.text[:200])]


def test_no_odd_text_is_a_server_error(app: Flask, model_id: str) -> None:
    http = app.test_client()
    failures = []
    for method, path, parameters in operations(app):
        if path.endswith("/events"):
            continue
        for number, parameter in enumerate(parameters):
            name = parameter["name"]
            for odd in ODD[number % 2 :: 2]:
                url = concrete(path, model_id, {name: odd} if parameter["in"] == "path" else {})
                query = f"?{name}={odd}" if parameter["in"] == "query" else ""
                if (status := ask(http, method, url + query).status_code) >= 500:
                    failures.append((method, path, name, odd[:40], status))
    for odd in [*ODD, "a..b", "$a.b", ".a."]:
        for query in (f"min_{odd}=1", f"sort=metrics.{odd}", f"sort=-metrics.{odd}&max_{odd}=0"):
            if (status := ask(http, "GET", f"/api/v1/models?{query}").status_code) >= 500:
                failures.append(("GET", "/api/v1/models", query[:40], "", status))
    assert not failures


def test_no_header_is_a_server_error(app: Flask, model_id: str) -> None:
    http = app.test_client()
    failures = []
    for method, path, _ in operations(app):
        for name, value in HEADERS.items():
            answer = ask(http, method, concrete(path, model_id), **{name: value})
            if answer.status_code >= 500:
                failures.append((method, path, name, answer.status_code))
    assert not failures


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"name": "a\\u0000"}', "name"),
        ('{"metrics": {"a\\u0000": 1}}', "metrics"),
        ('{"tags": ["a\\udc00"]}', "tags.0"),
        ('{"hyperparameters": {"a": ["\\u0000"]}}', "hyperparameters.a.0"),
    ],
)
def test_a_body_with_what_is_no_text_is_refused_by_its_field(
    http: FlaskClient, text: str, field: str
) -> None:
    answer: Any = http.post("/api/v1/models", data=text, content_type="application/json")
    assert (answer.status_code, answer.json["error"]["details"]["fields"][0]["field"]) == (422, field)


def test_a_file_name_without_text_is_refused(http: FlaskClient, model_id: str) -> None:
    url = f"/api/v1/models/{model_id}"
    sent: Any = http.post(f"{url}/upload", data=b"x", headers={"X-Filename": "UTF-8''a%00.onnx"})
    assert (sent.status_code, sent.json["error"]["details"]["fields"][0]["field"]) == (422, "X-Filename")
    form = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n--b--\r\n'
    for body, field in [
        (form % (b"file", b'; filename="a\x00.bin"', b"x"), "filename"),
        (form % (b"file", b"; filename*=UTF-8''a%00.bin", b"x"), "filename"),
        (form % (b"confirm", b"", b"\xff"), "confirm"),
    ]:
        answer: Any = http.post(f"{url}/upload", data=body, content_type="multipart/form-data; boundary=b")
        assert answer.status_code == 422, answer.text
        assert answer.json["error"]["details"]["fields"][0]["field"] == field
    assert http.put(f"{url}/files/%EF%BF%BD.bin", data=b"x").status_code == 422


def test_a_metric_of_any_other_name_is_found(http: FlaskClient) -> None:
    http.post("/api/v1/models", json=new_model(metrics={"a.b": 1, "потери": 0.5}))
    found: Any = http.get("/api/v1/models?max_потери=0.6")
    assert [model["metrics"] for model in found.json["models"]] == [{"a.b": 1, "потери": 0.5}]
