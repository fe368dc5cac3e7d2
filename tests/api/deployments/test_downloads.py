"""Deployments of type ``download``: the package of an export at a signed URL."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database, now
from model_service.storage.stores import build_stores
from tests.api.deployed import URL, deploy, events, exported
from tests.api.finished import wrong_references


@pytest.fixture
def verified(http: FlaskClient, database: Database) -> str:
    return exported(http, database)


def offered(http: FlaskClient, job_id: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "Mobile", "deployment_type": "download", "export_job_id": job_id, **fields}
    answer = http.post(URL, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    return dict(answer.json)


def fetch(http: FlaskClient, url: str, **headers: str) -> Any:
    parts = urlsplit(url)
    return http.get(f"{parts.path}?{parts.query}", headers=headers)


def test_a_download_is_active_at_once_for_a_day(http: FlaskClient, verified: str) -> None:
    made = offered(http, verified)
    assert (made["status"], made["live_revision"], made["deployment_type"]) == ("active", 1, "download")
    assert made["config"] == {"expires_in_s": 86_400}
    told = made["deployment_config"]
    assert told == {"download_url": made["download_url"], "expires_at": made["expires_at"]}
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert (made["endpoint_url"], made["api_key"], made["notice"]) == (None, None, None)
    assert events(http, made["id"]) == ["created", "deployed"]
    package = fetch(http, made["download_url"])
    assert package.data == b"the package of digits v1.0"
    assert package.headers["X-File-Checksum"] == f"sha256:{hashlib.sha256(package.data).hexdigest()}"
    assert "Mobile-v1.0-onnx.zip" in package.headers["Content-Disposition"]


def test_started_downloads_of_the_whole_package_are_counted(http: FlaskClient, verified: str) -> None:
    made = offered(http, verified)
    fetch(http, made["download_url"])
    http.get(f"{URL}/{made['id']}/download")
    assert fetch(http, made["download_url"], Range="bytes=4-10").data == b"package"
    assert http.head(f"{URL}/Mobile/download").status_code == 200
    assert http.get(f"{URL}/{made['id']}").json["download_count"] == 2  # type: ignore[index]


def test_a_package_that_was_not_executed_says_so(http: FlaskClient, database: Database) -> None:
    job_id = exported(http, database, verdict="converted_not_executed", export_format="coreml")
    made = offered(http, job_id)
    assert made["routing"]["members"][0]["verdict"] == "converted_not_executed"
    assert made["notice"].startswith("Converted, not executed: ")
    assert f"{job_id} (coreml)" in made["notice"]


@pytest.mark.parametrize(
    ("changes", "override"),
    [({"verdict": "failed"}, False), ({"verdict": "failed"}, True), ({"status": "failed"}, False)],
)
def test_a_failed_export_is_refused(
    http: FlaskClient, database: Database, changes: dict[str, str], override: bool
) -> None:
    job_id = exported(http, database, **{"verdict": "failed", **changes})
    body = {"name": "d", "deployment_type": "download", "export_job_id": job_id}
    answer: Any = http.post(URL, json=body | ({"override_verification": True} if override else {}))
    expected = (422, "invalid_field") if override else (409, "not_verified")
    assert (answer.status_code, answer.json["error"]["code"]) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"export_job_id": None}, "export_job_id"),
        ({"config": {"expires_in_s": 0}}, "config.expires_in_s"),
        ({"config": {"expires_in_s": 7 * 86_400 + 1}}, "config.expires_in_s"),
        ({"config": {"target_platform": "ios"}}, "config.target_platform"),
        ({"target_platform": "ios"}, "config.target_platform"),
        ({"config": {"gpu_enabled": True}}, "config.gpu_enabled"),
        ({"sticky_header": "X-User"}, "sticky_header"),
        ({"export_job_ids": {"ios": "x"}, "export_job_id": None}, "export_job_ids"),
    ],
)
def test_a_wrong_field_is_named(http: FlaskClient, verified: str, fields: dict[str, Any], field: str) -> None:
    body = {"name": "d", "deployment_type": "download", "export_job_id": verified, **fields}
    answer: Any = http.post(URL, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), answer.text
    assert [each["field"] for each in answer.json["error"]["details"]["fields"]] == [field]


def test_an_endpoint_takes_no_field_of_a_package(http: FlaskClient, verified: str) -> None:
    body = {"name": "d", "export_job_id": verified, "config": {"expires_in_s": 60}}
    answer: Any = http.post(URL, json=body)
    assert answer.json["error"]["details"]["fields"][0]["field"] == "config.expires_in_s"


def test_a_deactivated_download_ends_and_its_old_address_stays_ended(
    http: FlaskClient, verified: str
) -> None:
    made = offered(http, verified)
    off: Any = http.post(f"{URL}/{made['id']}/deactivate").json
    assert (off["status"], off["download_url"], off["expires_at"]) == ("inactive", None, None)
    refused = fetch(http, made["download_url"])
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "signature_invalid")
    assert http.get(f"{URL}/{made['id']}/download").status_code == 409
    on: Any = http.post(f"{URL}/{made['id']}/activate").json
    assert on["status"] == "active"
    assert fetch(http, on["download_url"]).status_code == 200
    assert fetch(http, made["download_url"]).status_code == 403
    assert events(http, made["id"]) == ["created", "deployed", "deactivated", "reactivated", "deployed"]


def test_a_deleted_download_ends_and_releases_its_package(
    http: FlaskClient, verified: str, database: Database
) -> None:
    made = offered(http, verified)
    assert http.delete(f"{URL}/{made['id']}").status_code == 200
    assert fetch(http, made["download_url"]).status_code == 404
    assert wrong_references(database) == []


def test_an_expired_address_is_renewed(http: FlaskClient, verified: str, database: Database) -> None:
    made = offered(http, verified, config={"expires_in_s": 60})
    database.deployments.update_one(
        {"_id": made["id"]}, {"$set": {"delivery.expires_at": now() - timedelta(seconds=1)}}
    )
    read: Any = http.get(f"{URL}/{made['id']}").json
    assert (read["status"], read["download_url"]) == ("active", None)
    renewed: Any = http.post(f"{URL}/{made['id']}/renew", json={"expires_in_s": 3600}).json
    left = datetime.fromisoformat(renewed["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert fetch(http, renewed["download_url"]).status_code == 200
    assert renewed["revision"] == 1
    assert events(http, made["id"]) == ["created", "deployed", "renewed"]
    own: Any = http.post(f"{URL}/{made['id']}/renew", json={}).json
    assert datetime.fromisoformat(own["expires_at"]) - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_changed_address_is_refused(http: FlaskClient, verified: str) -> None:
    one, other = offered(http, verified), offered(http, verified)
    elsewhere = one["download_url"].replace(one["id"], other["id"])
    assert fetch(http, elsewhere).json["error"]["code"] == "signature_invalid"
    later = one["download_url"].replace("expires=1", "expires=2")
    assert fetch(http, later).json["error"]["code"] == "signature_invalid"
    assert fetch(http, one["download_url"].replace("address=1", "address=2")).status_code == 403


def test_an_update_offers_another_package(http: FlaskClient, verified: str, database: Database) -> None:
    made = offered(http, verified)
    other = exported(http, database)
    changed: Any = http.patch(f"{URL}/{made['id']}", json={"export_job_id": other}).json
    assert (changed["status"], changed["revision"], changed["live_revision"]) == ("active", 2, 2)
    assert fetch(http, changed["download_url"]).data == b"the package of digits v1.1"
    back: Any = http.post(f"{URL}/{made['id']}/rollback", json={}).json
    assert fetch(http, back["download_url"]).data == b"the package of digits v1.0"
    assert wrong_references(database) == []
    body = {"name": "Mobile", "export_job_id": verified, "deployment_type": "platform_endpoint"}
    other_type: Any = http.put(f"{URL}/{made['id']}", json=body).json
    assert other_type["error"]["code"] == "conflict"


def test_the_notice_is_about_the_package_that_is_offered(
    http: FlaskClient, verified: str, database: Database
) -> None:
    unproven = exported(http, database, verdict="converted_not_executed", export_format="coreml")
    body = {"name": "d", "deployment_type": "edge_package", "target_platform": "ios"}
    made: Any = http.post(URL, json=body | {"export_job_id": unproven}).json
    stores = build_stores(database)
    build = stores.deployments.get(made["id"])
    assert build is not None
    database.transaction(lambda session: stores.package_builds.deliver(build, None, session))
    assert http.patch(f"{URL}/{made['id']}", json={"export_job_id": verified}).status_code == 200
    updating: Any = http.get(f"{URL}/{made['id']}").json
    assert (updating["live_revision"], updating["revision"]) == (1, 2)
    assert unproven in updating["notice"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("scale", {"replicas": 2}),
        ("promote", {"member": "package"}),
        ("keys", {"name": "another"}),
    ],
)
def test_there_is_no_endpoint_to_change(
    http: FlaskClient, verified: str, path: str, body: dict[str, Any]
) -> None:
    answer: Any = http.post(f"{URL}/{offered(http, verified)['id']}/{path}", json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    assert "no endpoint" in answer.json["error"]["message"]


def test_an_endpoint_has_no_package(http: FlaskClient, verified: str) -> None:
    made = deploy(http, export_job_id=verified)
    assert "download_url" in made
    assert made["download_url"] is None
    for answer in (
        http.get(f"{URL}/{made['id']}/download"),
        http.post(f"{URL}/{made['id']}/renew", json={}),
    ):
        assert answer.status_code == 409
        assert verified in str(answer.json) or "serves an endpoint" in str(answer.json)


def test_lists_are_filtered_by_type(http: FlaskClient, verified: str) -> None:
    made, _ = offered(http, verified), deploy(http, export_job_id=verified)
    found: Any = http.get(f"{URL}?deployment_type=download").json
    assert [each["id"] for each in found["deployments"]] == [made["id"]]
    assert fetch(http, found["deployments"][0]["download_url"]).status_code == 200


def test_a_repeated_request_makes_one_download(http: FlaskClient, verified: str) -> None:
    body = {"name": "d", "deployment_type": "download", "export_job_id": verified}
    first, again = (http.post(URL, json=body, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.json is not None
    assert again.json is not None
    assert first.json["id"] == again.json["id"]
