import hashlib
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.api.schemas.deployments import WholeDeployment
from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.documents import DEFAULT_CONFIG
from model_service.storage.stores import build_stores
from tests.api.deployed import URL, deploy, events, exported
from tests.api.finished import wrong_references


@pytest.fixture
def pending(http: FlaskClient, model_id: str) -> str:
    """A job that no worker has taken."""
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes")
    return str(
        http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"}).json["id"]
    )


@pytest.fixture
def verified(http: FlaskClient, database: Database) -> str:
    return exported(http, database)


def test_the_key_is_told_once_and_kept_as_a_hash(
    http: FlaskClient, verified: str, database: Database
) -> None:
    fields = {"deployment_type": "platform_endpoint", "description": "for a test"}
    created = deploy(http, export_job_id=verified, **fields)
    key = str(created.pop("api_key"))
    assert key.startswith("pk_")
    assert len(key) > 40
    assert created["status"] == "pending"
    assert str(created["endpoint_url"]).endswith(f"/v1/infer/{created['id']}")
    read = http.get(f"{URL}/{created['id']}")
    assert read.json == created
    assert read.headers["ETag"] == '"r1"'
    known = {**WholeDeployment.model_fields, **WholeDeployment.model_computed_fields}
    assert set(read.json) == set(known)
    stored = database.api_keys.find_one({"deployment_id": created["id"]})
    assert stored is not None
    assert stored["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert key not in str(stored)


def test_an_inference_server_may_move(
    http: FlaskClient, verified: str, settings: Settings, database: Database
) -> None:
    elsewhere = settings.model_copy(update={"inference_url": "https://models.example"})
    made = deploy(http, export_job_id=verified)
    moved = create_app(elsewhere).test_client()
    read: Any = moved.get(f"{URL}/{made['id']}").json
    assert read["endpoint_url"] == f"https://models.example/v1/infer/{made['id']}"
    listed: Any = moved.get(URL).json
    assert listed["deployments"][0]["deployment_config"]["endpoint_url"] == read["endpoint_url"]


def test_one_export_answers_everything_with_the_defaults_written_out(
    http: FlaskClient, verified: str
) -> None:
    created = deploy(http, export_job_id=verified)
    assert created["config"] == DEFAULT_CONFIG
    assert created["deployment_config"] == {
        "endpoint_url": created["endpoint_url"],
        "inference_framework": "model-service",
        "replicas": 1,
        "gpu_enabled": False,
        "auto_scaling": {"min": 1, "max": 1, "target_utilization": 70},
    }
    assert (created["revision"], created["live_revision"], created["user_id"]) == (1, None, "anonymous")
    (member,) = created["routing"]["members"]
    assert (member["name"], member["model_version"], member["format"]) == ("v1.0", "v1.0", "onnx")
    assert (member["export_job_id"], created["export_job_id"]) == (verified, verified)
    assert [revision["revision"] for revision in created["revisions"]] == [1]
    assert events(http, created["id"]) == ["created"]


def test_a_split_names_its_members_by_their_versions(http: FlaskClient, database: Database) -> None:
    one, two = exported(http, database), exported(http, database)
    created = deploy(
        http,
        traffic=[
            {"export_job_id": one, "weight": 90},
            {"export_job_id": one, "weight": 0},
            {"export_job_id": two, "name": "canary", "weight": 10},
        ],
        sticky_header="X-User",
        shadow={"export_job_id": two, "share": 0.5},
        rollback={"max_error_rate": 0.1},
    )
    routing = created["routing"]
    assert [(each["name"], each["weight"]) for each in routing["members"]] == [
        ("v1.0", 90),
        ("v1.0-2", 0),
        ("canary", 10),
    ]
    assert (routing["mode"], routing["sticky_header"]) == ("split", "X-User")
    assert (routing["shadow"]["name"], routing["shadow"]["share"]) == ("v1.1", 0.5)
    assert routing["rollback"] == {
        "max_error_rate": 0.1,
        "max_p95_ms": None,
        "min_requests": 50,
        "window_s": 60,
    }
    assert wrong_references(database) == []
    http.delete(f"{URL}/{created['id']}")
    assert wrong_references(database) == []


def test_several_models_behind_one_name(http: FlaskClient, database: Database) -> None:
    cats, dogs = exported(http, database, name="cats"), exported(http, database, name="dogs")
    routing = deploy(http, models={"cats": cats, "dogs": dogs})["routing"]
    assert routing["mode"] == "models"
    assert [(each["name"], each["model_name"]) for each in routing["members"]] == [
        ("cats", "cats"),
        ("dogs", "dogs"),
    ]


def test_an_ensemble_takes_only_what_was_made_before(http: FlaskClient, database: Database) -> None:
    specs: dict[str, Any] = {"inputs": [{"name": "x"}], "outputs": [{"name": "y.0"}]}
    one, two = (exported(http, database, **specs) for _ in range(2))

    def chain(inputs: dict[str, str]) -> dict[str, Any]:
        steps = [{"export_job_id": one, "name": "v1"}, {"export_job_id": two, "inputs": inputs}]
        return {"name": "chain", "ensemble": steps}

    created = http.post(URL, json=chain({"x": "v1.y.0"}))
    assert created.status_code == 202
    assert created.json["routing"]["members"][1]["inputs"] == {"x": "v1.y.0"}
    assert http.post(URL, json=chain({"x": "image"})).status_code == 202  # an input of the request
    for wrong in ({"x": "v1.z"}, {"x": "v1.1.y.0"}, {"z": "v1.y.0"}):
        answer = http.post(URL, json=chain(wrong))
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), wrong


def test_only_a_verified_export_is_deployed(http: FlaskClient, pending: str, database: Database) -> None:
    for job_id, status, verdict in (
        (pending, "pending", None),
        (exported(http, database, verdict="converted_not_executed"), "completed", "converted_not_executed"),
    ):
        answer = http.post(URL, json={"export_job_id": job_id, "name": "digits"})
        assert (answer.status_code, answer.json["error"]["code"]) == (409, "not_verified")
        details = {"export_job_id": job_id, "status": status, "verdict": verdict}
        assert answer.json["error"]["details"] == details


def test_an_administrator_overrides_the_verification_and_the_history_says_so(
    http: FlaskClient, pending: str, database: Database
) -> None:
    unproven = exported(http, database, verdict="converted_not_executed")
    created = deploy(http, export_job_id=unproven, override_verification=True)
    history = http.get(f"{URL}/{created['id']}/history?event_type=verification_overridden").json["history"]
    assert [event["event_data"] for event in history] == [
        {
            "revision": 1,
            "exports": [
                {"export_job_id": unproven, "status": "completed", "verdict": "converted_not_executed"}
            ],
        }
    ]
    assert history[0]["created_by_user_id"] == "anonymous"
    nothing = {"export_job_id": pending, "name": "digits", "override_verification": True}
    assert http.post(URL, json=nothing).json["error"]["code"] == "not_verified"


def test_lists_are_paged_and_filtered(http: FlaskClient, verified: str, database: Database) -> None:
    ids = [deploy(http, export_job_id=verified)["id"] for _ in range(3)]
    other = deploy(http, export_job_id=exported(http, database, name="other"), name="another")
    page = http.get(f"{URL}?page=2&limit=2&status=pending").json
    assert [found["id"] for found in page["deployments"]] == [ids[1], ids[0]]
    assert page["pagination"]["total"] == 4
    assert http.get(f"{URL}?status=active").json["deployments"] == []
    for query in ("name=another", "model_name=other", f"export_job_id={other['export_job_id']}"):
        assert [each["id"] for each in http.get(f"{URL}?{query}").json["deployments"]] == [other["id"]]


def test_a_deleted_deployment_leaves_no_key_and_keeps_its_history(
    http: FlaskClient, verified: str, database: Database
) -> None:
    created = deploy(http, export_job_id=verified)
    assert http.delete(f"{URL}/{created['id']}").json["deleted_id"] == created["id"]
    assert http.get(f"{URL}/{created['id']}").status_code == 404
    assert http.delete(f"{URL}/{created['id']}").status_code == 404
    assert database.api_keys.count_documents({}) == 0
    history = http.get(f"{URL}/{created['id']}/history").json["history"]
    assert [event["event_type"] for event in history] == ["deleted", "created"]
    told = {"name": "digits", "model_name": "digits", "user_id": "anonymous"}
    assert history[0]["event_data"] == told
    assert http.get(f"{URL}/{created['id']}/logs").json["logs"] == []


def test_logs_are_told_from_a_level_on_newest_first(
    http: FlaskClient, verified: str, database: Database
) -> None:
    deployment_id = deploy(http, export_job_id=verified)["id"]
    entry = {"deployment_id": deployment_id, "event": "loaded", "server": "here", "details": {"n": 1}}
    told = [entry | {"at": now(), "level": level, "message": level} for level in ("info", "error", "warning")]
    build_stores(database).deployment_logs.insert(told)
    logs = http.get(f"{URL}/{deployment_id}/logs?level=warning").json["logs"]
    assert {each["message"] for each in logs} == {"error", "warning"}
    assert len(http.get(f"{URL}/{deployment_id}/logs?limit=1").json["logs"]) == 1
    assert http.get(f"{URL}/{deployment_id}/logs?level=loud").status_code == 422


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"deployment_type": "moon"}, "invalid_field"),
        ({"name": "a/b"}, "invalid_field"),
        ({"replicas": 3}, "invalid_field"),
        ({"config": {"batching": {"max_batch_size": 0}}}, "invalid_field"),
        ({"config": {"auto_scaling": {"min_replicas": 3, "max_replicas": 2}}}, "invalid_field"),
        ({"config": {"auto_scaling": None}}, "invalid_field"),
        ({"config": {"max_concurrency": None}}, "invalid_field"),
        ({"models": {"one": "x"}}, "invalid_field"),
        ({"export_job_id": None}, "invalid_field"),
        ({"rollback": {"min_requests": 10}}, "invalid_field"),
        ({"sticky_header": "X User"}, "invalid_field"),
        ({"shadow": {"export_job_id": "x", "share": 2}}, "invalid_field"),
    ],
)
def test_what_is_not_offered_is_refused(
    http: FlaskClient, verified: str, fields: dict[str, object], code: str
) -> None:
    answer = http.post(URL, json={"export_job_id": verified, "name": "digits", **fields})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, code)
    assert http.get(URL).json["deployments"] == []


@pytest.mark.parametrize(
    "more",
    [
        {"traffic": [{"export_job_id": "ID", "weight": 0}]},
        {"traffic": [{"export_job_id": "ID", "name": "a"}, {"export_job_id": "ID", "name": "a"}]},
        {"models": {"a": "ID"}, "sticky_header": "X-User"},
        {"models": {"a": "ID"}, "shadow": {"export_job_id": "ID", "share": 1}},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    http: FlaskClient, verified: str, more: dict[str, Any]
) -> None:
    body = json.loads(json.dumps({"name": "digits", **more}).replace('"ID"', f'"{verified}"'))
    answer = http.post(URL, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")


def test_the_exports_of_a_deployment_lie_in_one_namespace(http: FlaskClient, database: Database) -> None:
    own, other = exported(http, database, name="vision/a"), exported(http, database, name="audio/a")
    answer = http.post(URL, json={"name": "both", "models": {"own": own, "other": other}})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    created = deploy(http, export_job_id=own)
    assert created["namespace"] == "vision"
    changed = http.patch(f"{URL}/{created['id']}", json={"export_job_id": other})
    assert changed.status_code == 422


def test_a_repeated_request_makes_one_deployment_and_tells_its_key_again(
    http: FlaskClient, verified: str, database: Database
) -> None:
    body = {"export_job_id": verified, "name": "digits"}
    first, second, other = (
        http.post(URL, json=body, headers={"Idempotency-Key": key}) for key in ("one", "one", "two")
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json == first.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert other.json["id"] != first.json["id"]
    assert other.json["api_key"] != first.json["api_key"]
    keys = http.get(f"{URL}/{first.json['id']}/keys").json["keys"]
    assert len(keys) == 1
    http.delete(f"{URL}/{first.json['id']}/keys/{keys[0]['id']}")
    again = http.post(URL, json=body, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json["error"]["code"]) == (409, "conflict")
