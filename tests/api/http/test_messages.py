"""The reason of a refusal is a sentence about the field: no regular expression, no term of a library."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import model_service
from model_service import sentences
from model_service.config import SettingsError, read_settings
from tests.factories import new_model

MODELS = "/api/v1/models"


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/api/v1/users", {"name": "ann", "password": "short"}, "password", "at least 12 characters"),
        ("/api/v1/users", {"name": "ann b"}, "name", "starting with a letter or a digit"),
        (f"{MODELS}/batch", {"operations": []}, "operations", "must not be empty"),
        (MODELS, new_model(algorithm=""), "algorithm", "must not be empty"),
        (MODELS, new_model(algorithm="a" * 200), "algorithm", "at most 128 characters"),
        (MODELS, new_model(name="my model"), "name", "a name, or a namespace and a name"),
        (MODELS, new_model(tags=["x"] * 101), "tags", "at most 100 items"),
        (MODELS, new_model(tags=["a,b"]), "tags.0", "separate items of the list"),
        (MODELS, new_model(metrics={"$a": 1}), "metrics", "starts with '$'"),
    ],
)
def test_a_refusal_says_what_the_field_must_be(
    http: FlaskClient, path: str, body: dict[str, Any], field: str, message: str
) -> None:
    answer = http.post(path, json=body).get_json()
    (found,) = answer["error"]["details"]["fields"]
    assert found["field"] == field
    assert message in found["message"]
    for term in ("pattern", "items after", "Value error", "^["):
        assert term not in answer["error"]["message"]


def test_every_regular_expression_that_pydantic_checks_has_a_sentence() -> None:
    """``sentences.pattern`` gives both. One that only documents is checked, and explained, by a service."""
    schemas = Path(model_service.__file__).parent / "api" / "schemas"
    bare = [
        path.name
        for path in schemas.glob("*.py")
        if re.search(r"\bField\([^()]*\bpattern=", path.read_text())
    ]
    assert bare == []
    assert sentences._PATTERNS
    for pattern in sentences._PATTERNS:
        problem = {"type": "string_pattern_mismatch", "ctx": {"pattern": pattern}, "msg": pattern}
        assert "the format of this field" not in sentences.explain(problem), pattern


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("api_key", "short", "at least 16 characters"),
        ("mongodb_db", "a b", "1 to 38 letters"),
        ("signing_secret", "x", "at least 32 characters"),
    ],
)
def test_a_wrong_setting_says_what_it_must_be(setting: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"{setting.upper()}.* is not allowed: {message}"):
        read_settings(**{setting: value})


def test_tags_are_a_set_in_the_order_in_which_they_came(http: FlaskClient) -> None:
    for path, body in (
        (MODELS, new_model()),
        ("/api/v1/datasets", {"name": "digits"}),
        ("/api/v1/training", {"name": "run", "algorithm": "a"}),
    ):
        created = http.post(path, json=body | {"tags": ["b", "a", " b ", "a"]})
        url = created.headers["Location"]
        assert http.get(url).get_json()["tags"] == ["b", "a"]
        assert http.patch(url, json={"tags": ["c", "c"]}).get_json()["tags"] == ["c"]
        assert http.patch(url, json={"tags": ["c,d"]}).status_code == 422


def test_a_tag_with_a_comma_of_an_earlier_build_can_be_removed(http: FlaskClient, model_id: str) -> None:
    def run(op: str) -> Any:
        operation = {"op": op, "id": model_id, "tags": ["a,b"]}
        return http.post(
            f"{MODELS}/batch", data=json.dumps({"operations": [operation]}), content_type="application/json"
        )

    assert run("tag").status_code == 422
    assert run("untag").get_json()["success"] is True
