"""Requests for edge packages and containers, which a worker builds: what is accepted, and what is stored."""

from typing import Any, get_args

import pytest
from flask.testing import FlaskClient

from exporters import registry
from exporters.delivery.fitting import BOTH, CONTAINER, EDGE
from exporters.wrappers import LANGUAGES
from model_service.api.schemas.deployments import Platform
from model_service.storage.common.db import Database
from tests.api.deployed import URL, events, exported
from tests.api.finished import wrong_references


def post(http: FlaskClient, **fields: Any) -> Any:
    return http.post(URL, json={"name": "mobile", "deployment_type": "edge_package", **fields})


class Jobs(dict[str, str]):
    """Format → an export job of that format, made when it is asked for."""

    def __init__(self, http: FlaskClient, database: Database) -> None:
        self._http, self._database = http, database

    def __missing__(self, export_format: str) -> str:
        verdict = _VERDICTS.get(export_format, "verified")
        made = exported(self._http, self._database, export_format=export_format, verdict=verdict)
        self[export_format] = made
        return made


@pytest.fixture
def jobs(http: FlaskClient, database: Database) -> Jobs:
    return Jobs(http, database)


_SOME = ("onnx", "coreml", "openvino", "tensorrt", "pickle")
_VERDICTS = {"coreml": "converted_not_executed", "tensorrt": "converted_not_executed"}


def test_the_lists_agree() -> None:
    assert set(EDGE["ios"]) == LANGUAGES["swift"].formats
    assert set(EDGE["android"]) == LANGUAGES["kotlin"].formats
    assert set(EDGE["linux-arm64"]) == LANGUAGES["cpp"].formats
    assert set(CONTAINER["model-service"]) == LANGUAGES["python"].formats - {"coreml", "tensorrt"}
    known = {spec.name for spec in registry.specifications()}
    assert set(EDGE) == set(get_args(Platform))
    assert set(BOTH) < set(EDGE)
    for formats in (*EDGE.values(), *CONTAINER.values()):
        assert formats
        assert set(formats) <= known


def test_a_package_for_one_platform(http: FlaskClient, jobs: Jobs, database: Database) -> None:
    made = post(http, export_job_id=jobs["coreml"], config={"target_platform": "ios"})
    assert made.status_code == 202, made.text
    stored = made.json
    assert (stored["status"], stored["live_revision"], stored["api_key"]) == ("pending", None, None)
    assert stored["config"] == {
        "expires_in_s": 86_400,
        "target_platform": "ios",
        "includes_sample_code": True,
    }
    assert stored["deployment_config"] == {
        "package_url": None,
        "target_platform": "ios",
        "includes_sample_code": True,
    }
    assert stored["notice"].startswith("Converted, not executed: ")
    assert events(http, stored["id"]) == ["created"]
    assert wrong_references(database) == []
    assert http.delete(f"{URL}/{stored['id']}").status_code == 200
    assert database.package_builds.count_documents({}) == 0
    assert wrong_references(database) == []


def test_a_package_for_both_platforms(http: FlaskClient, jobs: Jobs) -> None:
    ids = {"ios": jobs["coreml"], "android": jobs["tflite"]}
    stored = post(http, export_job_ids=ids, target_platform="both").json
    routing = stored["routing"]
    assert {each["name"]: each["export_job_id"] for each in routing["members"]} == ids
    assert routing["mode"] == "models"
    # An update of one field keeps the others.
    changed: Any = http.patch(f"{URL}/{stored['id']}", json={"config": {"expires_in_s": 60}}).json
    assert changed["routing"] == routing
    assert changed["revision"] == 2
    narrowed: Any = http.patch(
        f"{URL}/{stored['id']}", json={"target_platform": "ios", "export_job_id": jobs["coreml"]}
    ).json
    assert [each["name"] for each in narrowed["routing"]["members"]] == ["ios"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"export_job_id": "tflite"}, "config.target_platform"),
        ({"export_job_id": "tflite", "target_platform": "symbian"}, "config.target_platform"),
        ({"target_platform": "android"}, "export_job_id"),
        ({"target_platform": "both"}, "export_job_ids.ios"),
        ({"target_platform": "both", "export_job_id": "tflite"}, "export_job_ids.ios"),
        ({"target_platform": "both", "export_job_ids": {"android": "tflite"}}, "export_job_ids.ios"),
        ({"target_platform": "both", "export_job_ids": {"ios": "coreml"}}, "export_job_ids.android"),
        ({"target_platform": "ios", "export_job_ids": {"android": "tflite"}}, "export_job_ids.ios"),
        (
            {"target_platform": "ios", "export_job_id": "coreml", "config": {"includes_sample_code": False}},
            "config.includes_sample_code",
        ),
        (
            {"target_platform": "ios", "export_job_id": "coreml", "config": {"image_name": "digits"}},
            "config.image_name",
        ),
        (
            {
                "deployment_type": "container",
                "export_job_id": "onnx",
                "image_name": "Digits",
            },
            "config.image_name",
        ),
        ({"deployment_type": "container", "export_job_id": "onnx", "image_tag": "a b"}, "config.image_tag"),
        (
            {"deployment_type": "container", "export_job_ids": {"ios": "coreml"}},
            "export_job_ids",
        ),
    ],
)
def test_a_wrong_field_is_named(http: FlaskClient, jobs: Jobs, fields: dict[str, Any], field: str) -> None:
    named = {
        **fields,
        **({"export_job_id": jobs[fields["export_job_id"]]} if "export_job_id" in fields else {}),
        **(
            {"export_job_ids": {key: jobs[each] for key, each in fields["export_job_ids"].items()}}
            if "export_job_ids" in fields
            else {}
        ),
    }
    answer = post(http, **named)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), answer.text
    assert [each["field"] for each in answer.json["error"]["details"]["fields"]] == [field]


@pytest.mark.parametrize("target", EDGE)
def test_a_format_that_the_platform_cannot_run_is_refused(http: FlaskClient, jobs: Jobs, target: str) -> None:
    for export_format in _SOME:
        answer = post(http, export_job_id=jobs[export_format], target_platform=target)
        if export_format in EDGE[target]:
            assert answer.status_code == 202, (export_format, answer.text)
        else:
            error = answer.json["error"]
            assert (answer.status_code, error["code"]) == (422, "unsupported_option")
            assert error["details"]["allowed"] == list(EDGE[target])


@pytest.mark.parametrize("server", CONTAINER)
def test_a_format_that_the_server_cannot_run_is_refused(http: FlaskClient, jobs: Jobs, server: str) -> None:
    config = {"inference_framework": server}
    for export_format in _SOME:
        answer = post(http, deployment_type="container", export_job_id=jobs[export_format], config=config)
        assert answer.status_code == (202 if export_format in CONTAINER[server] else 422), export_format


def test_a_container_has_a_name_and_a_tag(http: FlaskClient, jobs: Jobs) -> None:
    made = post(http, deployment_type="container", export_job_id=jobs["onnx"]).json
    told = {"dockerfile_url": None, "image_name": f"exports/{made['id']}", "image_tag": "latest"}
    assert made["deployment_config"] == told
    image = {"image_name": "registry.example:5000/team/digits", "image_tag": "v1.0"}
    named = post(http, deployment_type="container", export_job_id=jobs["onnx"], **image).json
    assert named["deployment_config"] == {"dockerfile_url": None, **image}


def test_a_field_that_is_sent_in_two_places_is_refused(http: FlaskClient, jobs: Jobs) -> None:
    twice = {"target_platform": "ios", "config": {"target_platform": "ios"}}
    answer = post(http, export_job_id=jobs["coreml"], **twice)
    assert (answer.status_code, "sent twice" in answer.text) == (422, True)
