"""What is offered: from the list of exporters, and from what the running workers report."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from exporters import registry
from exporters.base import FAMILIES, LIBRARIES
from model_service.services.exports.capabilities import FRAMEWORKS
from model_service.storage.common.db import Database
from model_service.storage.operations.workers import Workers

URL = "/api/v1/export/capabilities"
SEEDS = {"supported", "quality", "native", "preprocessing_embedded"}


def report(
    database: Database, name: str, why_not: str | None, libraries: dict[str, str | None] | None = None
) -> None:
    formats = {
        spec.name: {FAMILIES[kind]: why_not for kind in registry.kinds(spec.name)}
        for spec in registry.specifications()
    }
    tools = {"ruamel.yaml": "1", "$odd": "2"}
    toolchain = {"digest": name, "tools": tools, "formats": formats, "libraries": libraries or {}}
    Workers(database).report(name, {"pid": 1, "toolchain": toolchain})


def test_each_framework_is_told_as_the_list_of_exporters_has_it(
    http: FlaskClient, database: Database
) -> None:
    report(database, "w1", None)
    words = ("excellent", "good", "fair")
    for framework, kinds in FRAMEWORKS.items():
        body: Any = http.get(f"{URL}?framework={framework}").json
        assert (body["framework"], body["workers"]) == (framework, 1)
        assert set(body["formats"]) == {spec.name for spec in registry.specifications()}
        for name, found in body["formats"].items():
            steps = [registry.steps(name, FAMILIES[kind]) for kind in kinds]
            assert found["supported"] is found["available"] is any(steps), (framework, name)
            assert found["native"] is (1 in steps)
            assert found["quality"] == (words[len(found["limitations"])] if any(steps) else None)
            assert ("ONNX" in str(found["limitations"])) is (any(steps) and 1 not in steps)
            assert found["sources"] == [kind for kind, count in zip(kinds, steps, strict=True) if count]
            assert found.keys() >= SEEDS
    onnx = http.get(f"{URL}?framework=timm").json["formats"]["onnx"]
    assert (onnx["supported"], onnx["native"], onnx["quality"], onnx["reason"]) == (
        True,
        True,
        "excellent",
        None,
    )


def test_the_quality_of_every_cell(http: FlaskClient, database: Database) -> None:
    """In one step and proven by every worker; with one limitation; with two. Embedding is for networks."""
    report(database, "w1", None)
    network = {
        **dict.fromkeys(("onnx", "torchscript", "openvino", "pt2", "pytorch"), "excellent"),
        **{"tflite": "good", "coreml": "good", "tensorrt": "fair", "pickle": None},
    }
    estimator = {"onnx": "excellent", "pickle": "excellent"}
    onnx = {"onnx": "excellent", "openvino": "excellent", "tensorrt": "good"}
    matrix = {
        **dict.fromkeys(("ultralytics", "timm", "huggingface", "pytorch"), network),
        **dict.fromkeys(("sklearn", "xgboost", "lightgbm"), estimator),
        "onnx": {**dict.fromkeys(network), **onnx},
    }
    for framework in FRAMEWORKS:
        formats = http.get(f"{URL}?framework={framework}").json["formats"]
        assert {name: found["quality"] for name, found in formats.items()} == {
            name: matrix[framework].get(name) for name in network
        }
        embeds = {name: found["preprocessing_embedded"] for name, found in formats.items()}
        networks = matrix[framework] if framework not in ("sklearn", "xgboost", "lightgbm") else {}
        assert embeds == {name: bool(networks.get(name)) for name in network}


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


def test_a_framework_whose_library_cannot_be_imported_is_not_available(
    http: FlaskClient, database: Database
) -> None:
    broken = {"timm": "timm cannot be imported.", "ultralytics": "ultralytics cannot be imported."}
    report(database, "w1", None, {**dict.fromkeys(LIBRARIES), **broken})
    for framework in FRAMEWORKS:
        for name, found in http.get(f"{URL}?framework={framework}").json["formats"].items():
            if found["supported"]:
                assert found["available"] is (framework not in broken), (framework, name)
                assert found["reason"] == broken.get(framework)


@pytest.mark.parametrize("framework", ["caffe", "", "TIMM"])
def test_a_framework_that_is_none_is_refused_with_those_that_are(http: FlaskClient, framework: str) -> None:
    answer = http.get(URL, query_string={"framework": framework})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert answer.json["error"]["details"]["allowed"] == list(FRAMEWORKS)


@pytest.mark.parametrize(
    ("framework", "filename", "export_format", "status"),
    [
        ("sklearn", "m.pkl", "tflite", 422),
        ("scikit-learn", "m.joblib", "openvino", 422),
        ("xgboost", "m.json", "coreml", 422),
        ("pytorch", "m.pt2", "pickle", 422),
        ("onnx", "m.onnx", "tflite", 422),
        ("sklearn", "m.pkl", "onnx", 202),
        ("sklearn", "m.onnx", "openvino", 202),  # whatever made it, the file is ONNX
        ("something else", "m.bin", "tflite", 202),
        (None, "m.bin", "tflite", 202),
    ],
)
def test_a_format_that_the_framework_cannot_become_is_refused_at_the_request(
    http: FlaskClient, framework: str | None, filename: str, export_format: str, status: int
) -> None:
    body = {"name": "m", "algorithm": "a"} | ({} if framework is None else {"framework": framework})
    model_id = http.post("/api/v1/models", json=body).json["model_id"]  # type: ignore[index]
    http.post(f"/api/v1/models/{model_id}/upload", data=b"x", headers={"X-Filename": filename})
    answer = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": export_format})
    assert answer.status_code == status, answer.text
    if status == 422:
        error: Any = answer.json["error"]  # type: ignore[index]
        assert export_format not in error["details"]["allowed"]
        assert all(name in error["message"] for name in error["details"]["allowed"])
