from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.deployments.serving_reports import ServingReports
from model_service.storage.stores import build_stores
from tests.api.deployed import URL, deploy, events, exported
from tests.api.finished import wrong_references
from tests.api.people import Caller, People, secured


@pytest.fixture
def reports(database: Database) -> ServingReports:
    return build_stores(database).serving_reports


@pytest.fixture
def versions(http: FlaskClient, database: Database) -> list[str]:
    """Exports of v1.0, v1.1 and v1.2."""
    return [exported(http, database) for _ in range(3)]


@pytest.fixture
def live(http: FlaskClient, versions: list[str], reports: ServingReports) -> str:
    """A deployment of the first version that a server serves."""
    deployment_id = str(deploy(http, export_job_id=versions[0])["id"])
    assert reports.made_live(deployment_id, 1)
    return deployment_id


def changed(answer: Any, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return dict(answer.json)


def read(http: FlaskClient, deployment_id: str) -> dict[str, Any]:
    return changed(http.get(f"{URL}/{deployment_id}"))


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code), answer.text
    return dict(answer.json["error"]["details"])


def test_a_patch_merges_the_configuration_and_makes_a_revision(
    http: FlaskClient, live: str, database: Database
) -> None:
    before = read(http, live)
    patch = {"config": {"batching": {"max_batch_size": 4}}, "description": "faster"}
    answer = http.patch(f"{URL}/{live}", json=patch)
    after = changed(answer)
    assert answer.headers["ETag"] == '"r2"'
    assert after["config"] == before["config"] | {"batching": {"max_batch_size": 4, "max_delay_ms": 0}}
    assert (after["description"], after["name"]) == ("faster", "digits")
    assert (after["revision"], after["live_revision"], after["status"]) == (2, 1, "active")
    assert after["routing"] == before["routing"]
    assert changed(http.patch(f"{URL}/{live}", json=patch))["revision"] == 2  # nothing changed
    audit = database.audit.find_one({"kind": "deployment", "action": "updated"})
    assert audit is not None
    assert audit["details"] == {"fields": ["config", "description"], "revision": 2}


def test_a_replacement_leaves_nothing_of_what_was(
    http: FlaskClient, live: str, versions: list[str], database: Database
) -> None:
    http.patch(f"{URL}/{live}", json={"description": "x", "config": {"timeout_ms": 5}})
    after = changed(http.put(f"{URL}/{live}", json={"name": "other", "export_job_id": versions[1]}))
    assert (after["name"], after["description"], after["config"]["timeout_ms"]) == ("other", None, 30_000)
    assert (after["model_version"], after["export_job_id"]) == ("v1.1", versions[1])
    assert wrong_references(database) == []
    refused(http.put(f"{URL}/{live}", json={"name": "other"}), 422, "invalid_field")


def test_a_change_of_what_changed_meanwhile_is_refused(http: FlaskClient, live: str) -> None:
    headers = {"If-Match": '"r1"'}
    assert http.patch(f"{URL}/{live}", json={"description": "one"}, headers=headers).status_code == 200
    for answer in (
        http.patch(f"{URL}/{live}", json={"description": "two"}, headers=headers),
        http.put(f"{URL}/{live}", json={"name": "two"}, headers=headers),
        http.post(f"{URL}/{live}/rollback", json={}, headers=headers),
        http.post(f"{URL}/{live}/promote", json={"member": "v1.0"}, headers=headers),
    ):
        details = refused(answer, 412, "precondition_failed")
        assert details == {"etag": '"r2"', "revision": 2}
    assert read(http, live)["description"] == "one"


def test_an_update_to_an_unverified_export_is_refused(
    http: FlaskClient, live: str, database: Database
) -> None:
    unproven = exported(http, database, verdict="converted_not_executed")
    refused(http.patch(f"{URL}/{live}", json={"export_job_id": unproven}), 409, "not_verified")
    override = {"export_job_id": unproven, "override_verification": True}
    assert changed(http.patch(f"{URL}/{live}", json=override))["revision"] == 2
    assert "verification_overridden" in events(http, live)
    # It was let pass: another weight asks nobody again.
    again = {"traffic": [{"export_job_id": unproven, "weight": 5}]}
    assert changed(http.patch(f"{URL}/{live}", json=again))["revision"] == 3


def test_five_revisions_are_kept_and_each_holds_its_packages(
    http: FlaskClient, live: str, versions: list[str], database: Database
) -> None:
    for weight in range(1, 7):
        traffic = [{"export_job_id": versions[weight % 3], "weight": weight}]
        changed(http.patch(f"{URL}/{live}", json={"traffic": traffic}))
        assert wrong_references(database) == []
    # The live one stays, however old it is.
    assert [each["revision"] for each in read(http, live)["revisions"]] == [1, 4, 5, 6, 7]
    http.delete(f"{URL}/{live}")
    assert wrong_references(database) == []


def test_scaling_makes_no_revision(http: FlaskClient, live: str) -> None:
    after = changed(http.post(f"{URL}/{live}/scale", json={"replicas": 3}))
    scaling = {"min_replicas": 3, "max_replicas": 3, "target_utilization": 70}
    assert (after["config"]["auto_scaling"], after["revision"]) == (scaling, 1)
    assert after["revisions"][0]["config"] == after["config"]
    some = {"max_replicas": 8, "target_utilization": 50}
    after = changed(http.post(f"{URL}/{live}/scale", json=some))
    assert after["config"]["auto_scaling"] == scaling | some
    assert read(http, live) == after
    changed(http.post(f"{URL}/{live}/scale", json=some))
    assert events(http, live) == ["created", "deployed", "scaled", "scaled"]
    for wrong in ({}, {"replicas": 2, "max_replicas": 4}, {"replicas": 0}, {"max_replicas": 2}):
        refused(http.post(f"{URL}/{live}/scale", json=wrong), 422, "invalid_field")


def test_a_deployment_is_switched_off_and_on(
    http: FlaskClient, live: str, reports: ServingReports, database: Database
) -> None:
    off = changed(http.post(f"{URL}/{live}/deactivate"))
    assert off["status"] == "inactive"
    assert off["deactivated_at"] is not None
    assert build_stores(database).served_deployments.read() == []
    assert not reports.made_live(live, 1)  # a server that has not seen it yet
    assert read(http, live) == off == changed(http.post(f"{URL}/{live}/deactivate"))
    on = changed(http.post(f"{URL}/{live}/activate"))
    assert (on["status"], on["deactivated_at"]) == ("deploying", None)
    assert read(http, live) == on == changed(http.post(f"{URL}/{live}/activate"))
    assert reports.made_live(live, 1)
    assert read(http, live)["status"] == "active"
    assert events(http, live) == ["created", "deployed", "deactivated", "reactivated", "deployed"]


def test_one_that_failed_is_activated_and_not_deactivated(
    http: FlaskClient, versions: list[str], reports: ServingReports
) -> None:
    deployment_id = deploy(http, export_job_id=versions[0])["id"]
    assert reports.update_failed(deployment_id, 1, "no good")
    assert (read(http, deployment_id)["status"], read(http, deployment_id)["error_message"]) == (
        "failed",
        "no good",
    )
    details = refused(http.post(f"{URL}/{deployment_id}/deactivate"), 409, "conflict")
    assert details == {"status": "failed", "allowed": ["deploying"]}
    after = changed(http.post(f"{URL}/{deployment_id}/activate"))
    assert (after["status"], after["error_message"]) == ("deploying", None)
    assert reports.update_failed(deployment_id, 1, "still no good")
    after = changed(http.patch(f"{URL}/{deployment_id}", json={"export_job_id": versions[1]}))
    assert (after["status"], after["revision"], after["error_message"]) == ("deploying", 2, None)


def test_a_rollback_is_a_revision_like_the_former(
    http: FlaskClient, live: str, versions: list[str], reports: ServingReports, database: Database
) -> None:
    refused(http.post(f"{URL}/{live}/rollback", json={}), 409, "conflict")
    changed(http.patch(f"{URL}/{live}", json={"export_job_id": versions[1], "config": {"timeout_ms": 5}}))
    reports.made_live(live, 2)
    changed(http.post(f"{URL}/{live}/scale", json={"replicas": 2}))
    after = changed(http.post(f"{URL}/{live}/rollback", json={}))
    assert (after["revision"], after["model_version"], after["config"]["timeout_ms"]) == (3, "v1.0", 30_000)
    assert after["config"]["auto_scaling"]["max_replicas"] == 2
    # Not back and forth: what was left for good reason is only gone back to by its number.
    reports.made_live(live, 3)
    details = refused(http.post(f"{URL}/{live}/rollback", json={}), 409, "conflict")
    assert details == {"revision": 3, "revisions": [1, 2, 3]}
    refused(http.post(f"{URL}/{live}/rollback", json={"revision": 9}), 409, "conflict")
    refused(http.post(f"{URL}/{live}/rollback", json={"revision": 3}), 409, "conflict")
    once = {"Idempotency-Key": "one"}
    for _ in range(2):
        answer = http.post(f"{URL}/{live}/rollback", json={"revision": 2}, headers=once)
        assert (changed(answer)["revision"], answer.json["model_version"]) == (4, "v1.1")
    assert events(http, live).count("rolled_back") == 2
    assert wrong_references(database) == []


def test_promotion_gives_one_member_everything(
    http: FlaskClient, live: str, versions: list[str], database: Database
) -> None:
    first, second, third = versions
    split = {
        "traffic": [{"export_job_id": first, "weight": 95}, {"export_job_id": second, "weight": 5}],
        "shadow": {"export_job_id": third, "share": 0.1},
    }
    changed(http.patch(f"{URL}/{live}", json=split))
    refused(http.post(f"{URL}/{live}/promote", json={"member": "v9"}), 422, "invalid_field")
    routing = changed(http.post(f"{URL}/{live}/promote", json={"member": "v1.1"}))["routing"]
    assert [(each["name"], each["weight"]) for each in routing["members"]] == [("v1.1", 100)]
    assert routing["shadow"]["name"] == "v1.2"
    after = changed(http.post(f"{URL}/{live}/promote", json={"member": "v1.2"}))
    assert [each["name"] for each in after["routing"]["members"]] == ["v1.2"]
    assert (after["routing"]["shadow"], after["model_version"]) == (None, "v1.2")
    again = changed(http.post(f"{URL}/{live}/promote", json={"member": "v1.2"}))
    assert again["revision"] == after["revision"]
    assert events(http, live)[-2:] == ["promoted", "promoted"]
    assert wrong_references(database) == []
    changed(http.patch(f"{URL}/{live}", json={"models": {"one": first}}))
    refused(http.post(f"{URL}/{live}/promote", json={"member": "one"}), 409, "conflict")


def test_a_member_that_answers_everything_is_not_its_own_shadow(
    http: FlaskClient, live: str, versions: list[str]
) -> None:
    first, second, _ = versions
    split = {
        "traffic": [{"export_job_id": first, "weight": 95}, {"export_job_id": second, "weight": 5}],
        "shadow": {"export_job_id": second, "share": 0.1},
    }
    changed(http.patch(f"{URL}/{live}", json=split))
    assert changed(http.post(f"{URL}/{live}/promote", json={"member": "v1.1"}))["routing"]["shadow"] is None


def test_the_gpu_is_for_those_whose_tier_has_it(settings: Settings, database: Database) -> None:
    app = create_app(secured(settings))
    with app.test_client() as http:
        http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {People(app).root.credential}"
        export = exported(http, database)
    people = People(app)
    body = {"name": "fast", "export_job_id": export, "config": {"gpu_enabled": True}}
    poor = people.user("poor", ["deployer"], tier="free")
    answer = poor("POST", URL, json=body)
    assert refused(answer, 403, "forbidden")["field"] == "config.gpu_enabled"
    rich = people.user("rich", ["deployer"], tier="pro")
    assert rich("POST", URL, json=body, status=202).json["config"]["gpu_enabled"] is True  # type: ignore[index]


def test_only_an_administrator_overrides_a_verification(settings: Settings, database: Database) -> None:
    app = create_app(secured(settings))
    people = People(app)
    with app.test_client() as http:
        http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {people.root.credential}"
        export = exported(http, database, verdict="converted_not_executed")
    body = {"name": "new", "export_job_id": export, "override_verification": True}
    deployer: Caller = people.user("somebody", ["deployer"])
    refused(deployer("POST", URL, json=body), 403, "forbidden")
    people.root("POST", URL, json=body, status=202)
