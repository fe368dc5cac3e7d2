"""Every route with a JSON body: what is stored is read back equal; what cannot be is refused and named."""

import gzip
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from model_service.api.http.request_body import read_object
from model_service.errors import InvalidField, InvalidJSON
from tests.factories import new_model

MODELS, DATASETS, TRAINING = "/api/v1/models", "/api/v1/datasets", "/api/v1/training"
UNSTORABLE = [
    *("[" * deep + "]" * deep for deep in (70, 255, 300, 1000, 1023, 1024, 5000)),
    *('{"a":' * deep + "1" + "}" * deep for deep in (70, 255, 1023)),
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "1" * 5000,
    "1e400",
    '"\\ud800"',
    '{"a\\u0000": 1}',
    '{"\\udfff": 1}',
    '{"a": 1, "a": 2}',
]
ODD = [
    *UNSTORABLE,
    *("[" * deep + "]" * deep for deep in (31, 33, 60)),
    '{"$ref": "models", "$id": 1}',
    '{"a.b": {"": {"$": 0}}}',
    "9223372036854775807",
    "-9223372036854775808",
    "5e-324",
    '"\\u0000"',
    "[[], {}, null, true]",
    '"NaN"',
]
ONCE = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)
# What MongoDB stores: 64-bit integers, doubles, and text in Unicode.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=3)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), VALUES, max_size=4)
FREE = {
    MODELS: (new_model(), ("metrics", "hyperparameters", "dataset_info", "signature")),
    DATASETS: ({"name": "digits"}, ("schema", "statistics")),
    TRAINING: (
        {"name": "run", "algorithm": "a"},
        ("metrics", "hyperparameters", "config", "environment"),
    ),
}


def send(http: FlaskClient, method: str, path: str, text: str) -> Any:
    return http.open(path, method=method.upper(), data=text.encode(), content_type="application/json")


def json_routes(app: Flask) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, schema) of every route with a JSON body."""
    document = app.test_client().get("/openapi.json").get_json()
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
                found.append((method, path, document["components"]["schemas"][name]))
    assert len(found) > 25
    return found


def concrete(path: str, model_id: str) -> str:
    for name, value in {"model_id": model_id, "path": "model.bin", "alias": "production"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")


@pytest.mark.parametrize("literal", UNSTORABLE, ids=lambda literal: literal[:20])
def test_what_cannot_be_stored_is_refused_with_the_name_of_its_field(literal: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_object(f'{{"name": "x", "metrics": {{"loss": {literal}}}}}'.encode())
    (field,) = caught.value.details["fields"]
    assert field["field"].partition(".")[0] in {"metrics", "body", "a"}


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_json_lacks_is_refused_with_what_to_send(constant: str) -> None:
    with pytest.raises(InvalidJSON, match=f'send the string "{constant}"'):
        read_object(f'{{"metrics": {{"loss": {constant}}}}}'.encode())


def test_a_byte_order_mark_is_read_over() -> None:
    assert read_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_no_body_of_any_route_is_a_server_error(app: Flask, model_id: str) -> None:
    """Each odd value in each field of each route, and inside of it."""
    http = app.test_client()
    failures = []
    for method, path, schema in json_routes(app):
        url = concrete(path, model_id)
        required = dict.fromkeys(schema.get("required", []), "digits")
        for index, field in enumerate(schema.get("properties", {"operations": {}})):
            for turn, literal in enumerate(ODD[index % 3 :: 3]):
                form = ("{}", '{{"inner": {}}}', "[{}]")[turn % 3]
                fields = {name: json.dumps(value) for name, value in (required | {field: ""}).items()}
                fields[field] = form.format(literal)
                body = "{" + ", ".join(f"{json.dumps(k)}: {v}" for k, v in fields.items()) + "}"
                status = send(http, method, url, body).status_code
                if status >= 500 or (literal in UNSTORABLE and status < 400):
                    failures.append((method, path, field, form, literal[:30], status))
    assert not failures


@pytest.mark.parametrize("kind", FREE)
def test_a_free_object_is_read_back_equal_or_refused(http: FlaskClient, kind: str) -> None:
    required, fields = FREE[kind]

    @given(st.fixed_dictionaries(dict.fromkeys(fields, OBJECTS)), OBJECTS)
    @ONCE
    def check(sent: dict[str, Any], changed: dict[str, Any]) -> None:
        answer = send(http, "POST", kind, json.dumps(required | sent))
        assert answer.status_code in {201, 422}, answer.text
        if answer.status_code == 201:
            url = answer.headers["Location"]
            stored = http.get(url).get_json()
            assert {field: stored[field] for field in fields} == sent
            answer = send(http, "PATCH", url, json.dumps({fields[0]: changed}))
            assert answer.status_code in {200, 422}, answer.text
            if answer.status_code == 200:
                assert answer.get_json()[fields[0]] == changed
                assert http.get(url).get_json()[fields[0]] == changed

    check()


def test_a_body_of_optional_fields_alone_may_be_absent(app: Flask, model_id: str) -> None:
    http = app.test_client()
    http.put(f"{MODELS}/{model_id}/files/model.bin", data=b"weights")
    optional = [route for route in json_routes(app) if not route[2].get("required")]
    for action in ("rollback", "complete", "presign", "versions", "rotate"):
        assert any(path.endswith(action) for _, path, _ in optional), action
    for method, path, _ in optional:
        for content_type in (None, "application/json", "application/x-www-form-urlencoded"):
            url = concrete(path, model_id)
            absent = http.open(url, method=method.upper(), content_type=content_type)
            present = send(http, method, url, "{}")
            same = {absent.status_code, present.status_code}
            assert len(same) == 1 or same <= {200, 201, 202, 409}, (method, path, absent.text)
            assert absent.status_code != 400 or absent.get_json()["error"]["code"] != "invalid_json"


def test_a_body_with_required_fields_is_missed(app: Flask, model_id: str) -> None:
    http = app.test_client()
    for method, path, schema in json_routes(app):
        if schema.get("required"):
            answer = http.open(concrete(path, model_id), method=method.upper())
            assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_json"), path
            assert "no body" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "deflate", "br", "zstd", "aws-chunked", "gzip, br"])
def test_a_compressed_body_is_refused_on_every_route(app: Flask, model_id: str, encoding: str) -> None:
    http = app.test_client()
    document = http.get("/openapi.json").get_json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                answer = http.open(
                    concrete(path, model_id),
                    method=method.upper(),
                    data=gzip.compress(b'{"name": "digits"}'),
                    headers={"Content-Encoding": encoding, "Content-Type": "application/json"},
                )
                error = answer.get_json()["error"]
                assert (answer.status_code, error["code"]) == (415, "unsupported_encoding"), path
                assert answer.headers["Accept-Encoding"] == "identity"
                assert "uncompressed" in error["message"]
    assert http.get(f"{MODELS}/{model_id}").get_json()["files"] == []
    plain = {"Content-Encoding": "identity", "X-Filename": "a.bin"}
    assert http.post(f"{MODELS}/{model_id}/upload", data=b"x", headers=plain).status_code == 201
