"""What is offered: from the list of exporters, and from what the running workers report."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from exporters import registry
from exporters.base import FAMILIES
from model_service.services.capabilities import FRAMEWORKS
from model_service.storage.db import Database
from model_service.storage.workers import Workers

URL = "/api/v1/export/capabilities"
SEEDS = {"supported", "quality", "native", "preprocessing_embedded"}


def report(database: Database, name: str, why_not: str | None) -> None:
    formats = {
        spec.name: {FAMILIES[kind]: why_not for kind in registry.kinds(spec.name)}
        for spec in registry.specifications()
    }
    toolchain = {"digest": name, "tools": {"ruamel.yaml": "1", "$odd": "2"}, "formats": formats}
    Workers(database).report(name, {"pid": 1, "toolchain": toolchain})


def test_each_framework_is_told_as_the_list_of_exporters_has_it(
    http: FlaskClient, database: Database
) -> None:
    report(database, "w1", None)
    for framework, kinds in FRAMEWORKS.items():
        body: Any = http.get(f"{URL}?framework={framework}").json
        assert (body["framework"], body["workers"]) == (framework, 1)
        assert set(body["formats"]) == {spec.name for spec in registry.specifications()}
        for name, found in body["formats"].items():
            steps = [registry.steps(name, FAMILIES[kind]) for kind in kinds]
            assert found["supported"] is found["available"] is any(steps), (framework, name)
            assert found["native"] is (1 in steps)
            assert found["quality"] == ("excellent" if 1 in steps else "good" if any(steps) else None)
            assert found["sources"] == [kind for kind, count in zip(kinds, steps, strict=True) if count]
            assert found.keys() >= SEEDS
    onnx = http.get(f"{URL}?framework=timm").json["formats"]["onnx"]
    assert (onnx["supported"], onnx["native"], onnx["quality"], onnx["reason"]) == (
        True,
        True,
        "excellent",
        None,
    )


def test_without_a_framework_all_of_them_come_with_the_options(http: FlaskClient, database: Database) -> None:
    report(database, "w1", None)
    body: Any = http.get(URL).json
    assert [entry["framework"] for entry in body["frameworks"]] == list(FRAMEWORKS)
    assert body["options"]["onnx"]["opset_version"]["type"] == "integer"


def test_every_kind_of_checkpoint_is_some_frameworks() -> None:
    assert {kind for kinds in FRAMEWORKS.values() for kind in kinds} == set(FAMILIES)


def test_what_no_running_worker_can_make_is_not_available_and_says_why(
    http: FlaskClient, database: Database
) -> None:
    found: Any = http.get(f"{URL}?framework=pytorch").json["formats"]["onnx"]
    assert (found["supported"], found["available"]) == (True, False)
    assert "No worker is running" in found["reason"]
    report(database, "w1", "onnx needs onnx: pip install it.")
    found = http.get(f"{URL}?framework=pytorch").json["formats"]["onnx"]
    assert (found["available"], found["reason"]) == (False, "onnx needs onnx: pip install it.")
    report(database, "w2", None)
    found = http.get(f"{URL}?framework=pytorch").json["formats"]["onnx"]
    assert (found["available"], found["reason"]) == (True, None)


@pytest.mark.parametrize("framework", ["caffe", "", "TIMM"])
def test_a_framework_that_is_none_is_refused_with_those_that_are(http: FlaskClient, framework: str) -> None:
    answer = http.get(URL, query_string={"framework": framework})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert answer.json["error"]["details"]["allowed"] == list(FRAMEWORKS)
