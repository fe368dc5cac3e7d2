"""Every deployment request that the design documents show, as it stands, but for the export's id."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from tests.api.deployed import URL, deploy, events, exported

PRODUCTION = {
    "deployment_type": "platform_endpoint",
    "name": "Production API",
    "config": {
        "gpu_enabled": True,
        "auto_scaling": {"min_replicas": 2, "max_replicas": 10, "target_cpu_utilization": 70},
    },
}
# As the stored deployment has it, without what the service answers itself.
STORED = {
    "inference_framework": "triton",
    "replicas": 2,
    "gpu_enabled": True,
    "auto_scaling": {"min": 1, "max": 10, "target_utilization": 70},
}


@pytest.fixture
def verified(http: FlaskClient, database: Database) -> str:
    return exported(http, database)


def test_the_platform_hosted_use_case(http: FlaskClient, verified: str) -> None:
    made = deploy(http, export_job_id=verified, **PRODUCTION)
    assert (made["name"], made["display_name"]) == ("production-api", "Production API")
    assert made["deployment_type"] == "platform_endpoint"
    assert made["deployment_config"]["auto_scaling"] == {"min": 2, "max": 10, "target_utilization": 70}
    assert made["deployment_config"]["gpu_enabled"] is True
    assert made["deployment_config"]["endpoint_url"].endswith(f"/v1/infer/{made['id']}")
    assert made["api_key"].startswith("pk_")
    read: Any = http.get(f"{URL}/{made['id']}").json
    assert read["display_name"] == "Production API"
    history: Any = http.get(f"{URL}/{made['id']}/history").json
    fields = {"id", "deployment_target_id", "event_type", "event_data", "status_before", "status_after"}
    assert history["history"][0].keys() >= fields | {"created_at", "created_by_user_id"}


@pytest.mark.parametrize("field", ["config", "deployment_config"])
def test_the_configuration_as_it_is_stored(http: FlaskClient, verified: str, field: str) -> None:
    made = deploy(http, export_job_id=verified, **{field: STORED})
    told = made["deployment_config"]
    assert told.items() >= {key: STORED[key] for key in ("replicas", "gpu_enabled", "auto_scaling")}.items()
    assert told["inference_framework"] == "model-service"  # it speaks Triton's protocol
    # What was answered can be sent again, and changes nothing.
    body = {"export_job_id": verified, "name": made["name"], "config": made["config"]}
    again: Any = http.put(f"{URL}/{made['id']}", json=body).json
    assert (again["revision"], again["config"]) == (1, made["config"])


def test_replicas_alone_are_as_many_at_all_times(http: FlaskClient, verified: str) -> None:
    made = deploy(http, export_job_id=verified, config={"replicas": 3})
    scaling = {"min": 3, "max": 3, "target_utilization": 70}
    assert (made["deployment_config"]["replicas"], made["deployment_config"]["auto_scaling"]) == (3, scaling)


def test_scaling_takes_both_sets_of_names_and_drops_replicas_out_of_range(
    http: FlaskClient, verified: str
) -> None:
    made = deploy(http, export_job_id=verified, config=STORED)
    scaled: Any = http.post(f"{URL}/{made['id']}/scale", json={"min": 4, "target_cpu_utilization": 50}).json
    told = scaled["deployment_config"]
    assert told["auto_scaling"] == {"min": 4, "max": 10, "target_utilization": 50}
    assert told["replicas"] == 4
    assert events(http, made["id"]) == ["created", "scaled"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"auto_scaling": {"min": 1, "min_replicas": 2}}, "config.auto_scaling"),
        (
            {"auto_scaling": {"target_utilization": 1, "target_cpu_utilization": 2}},
            "config.auto_scaling",
        ),
        ({"auto_scaling": {"min": 3, "max": 2}}, "config.auto_scaling.min_replicas"),
        ({"replicas": 5, "auto_scaling": {"max": 2}}, "config.auto_scaling.initial_replicas"),
        ({"replicas": 2, "auto_scaling": {"max": 3, "initial_replicas": 3}}, "config"),
        ({"inference_framework": "torchserve"}, "config.inference_framework"),
    ],
)
def test_a_wrong_configuration_names_the_field(
    http: FlaskClient, verified: str, config: dict[str, Any], field: str
) -> None:
    body = {"export_job_id": verified, "name": "digits", "config": config}
    answer: Any = http.post(URL, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    assert [each["field"] for each in answer.json["error"]["details"]["fields"]] == [field]


def test_the_types_without_an_endpoint_as_they_are_stored(http: FlaskClient, database: Database) -> None:
    coreml = exported(http, database, export_format="coreml", verdict="converted_not_executed")
    onnx = exported(http, database)
    edge = {"target_platform": "ios", "includes_sample_code": True}
    image = {"image_name": "exports/1", "image_tag": "latest"}
    for kind, job_id, config, url in (
        ("download", onnx, {}, "download_url"),
        ("edge_package", coreml, edge, "package_url"),
        ("container", onnx, image, "dockerfile_url"),
    ):
        body = {"export_job_id": job_id, "name": "Mobile", "deployment_type": kind}
        for field in ("config", "deployment_config"):
            answer: Any = http.post(URL, json={**body, field: config})
            assert answer.status_code == (201 if kind == "download" else 202), answer.text
            made = answer.json
            assert made["config"].items() >= config.items()
            assert made["deployment_config"].items() >= config.items()
            assert url in made["deployment_config"]
            again = {**body, "config": made["config"]}  # what was answered can be sent again
            assert http.put(f"{URL}/{made['id']}", json=again).json["revision"] == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("display_name", "name"),
    [
        ("Größe & Co. (v2)", "groe-co.-v2"),
        ("  Production   API ", "production-api"),
        ("модель", "deployment"),
        ("...", "deployment"),
        ("é" * 200, "e" * 100),
    ],
)
def test_a_name_is_derived_from_any_text(
    http: FlaskClient, verified: str, display_name: str, name: str
) -> None:
    made = deploy(http, export_job_id=verified, name=display_name)
    assert (made["name"], made["display_name"]) == (name, display_name.strip())


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a" * 256])
def test_names_that_are_refused(http: FlaskClient, verified: str, name: str) -> None:
    answer: Any = http.post(URL, json={"export_job_id": verified, "name": name})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")


def test_derived_names_are_unique_and_stay(http: FlaskClient, verified: str) -> None:
    plain = deploy(http, export_job_id=verified, name="production-api")
    assert plain["display_name"] == "production-api"
    first = deploy(http, export_job_id=verified, name="Production API")
    second = deploy(http, export_job_id=verified, name="production, API!")
    assert [each["name"] for each in (first, second)] == ["production-api-2", "production-api-3"]
    http.delete(f"{URL}/{plain['id']}")
    for sent in ("Production API", "production-api-2"):
        kept: Any = http.patch(f"{URL}/{first['id']}", json={"name": sent}).json
        assert (kept["name"], kept["display_name"], kept["revision"]) == (
            "production-api-2",
            "Production API",
            1,
        )
    renamed: Any = http.patch(f"{URL}/{first['id']}", json={"name": "Staging API"}).json
    assert (renamed["name"], renamed["display_name"]) == ("staging-api", "Staging API")
    plain_again: Any = http.patch(f"{URL}/{first['id']}", json={"name": "api"}).json
    assert (plain_again["name"], plain_again["display_name"]) == ("api", "api")


def test_a_deployment_is_found_by_its_display_name(http: FlaskClient, verified: str) -> None:
    made = deploy(http, export_job_id=verified, name="Production API")
    deploy(http, export_job_id=verified, name="other")
    for name in ("Production API", "production-api"):
        found: Any = http.get(URL, query_string={"name": name}).json
        assert [each["id"] for each in found["deployments"]] == [made["id"]]
        named: Any = http.get(f"{URL}/{name}").json
        assert named["id"] == made["id"]


def test_a_display_name_that_two_deployments_have_is_refused_with_their_ids(
    http: FlaskClient, verified: str
) -> None:
    made = [deploy(http, export_job_id=verified, name="Production API")["id"] for _ in range(2)]
    answer = http.get(f"{URL}/Production API")
    assert answer.status_code == 409
    assert answer.json is not None
    assert set(answer.json["error"]["details"]["ids"]) == set(made)


def test_names_that_are_derived_at_once_differ(app: Flask, http: FlaskClient, verified: str) -> None:
    body = {"export_job_id": verified, "name": "Production API"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: app.test_client().post(URL, json=body), range(8)))
    assert [answer.status_code for answer in answers] == [202] * 8
    names = {answer.json["name"] for answer in answers if answer.json}
    assert names == {"production-api", *(f"production-api-{n}" for n in range(2, 9))}
