import hashlib

import pytest
from flask.testing import FlaskClient

from model_service.api.schemas.deployments import Deployment
from model_service.storage.blobs import Blob, Blobs
from model_service.storage.db import Database, Session
from model_service.storage.exports import Exports

URL = "/api/v1/deployments"
PACKAGE = b"a package's bytes"


@pytest.fixture
def pending(http: FlaskClient, model_id: str) -> str:
    """A job that no worker has taken."""
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes")
    return str(
        http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"}).json["id"]
    )


@pytest.fixture
def verified(pending: str, database: Database) -> str:
    """The same, completed as a worker completes it."""
    exports, blobs = Exports(database), Blobs(database)
    job = exports.claim(pending, worker="w", lease_s=60, max_attempts=1)
    assert job is not None
    token = job["lease"]["token"]

    def complete(stored: Blob, session: Session) -> None:
        results = {"fidelity": {"verdict": "verified"}, "package": stored.reference()}
        assert exports.complete(pending, token, results, session)

    blobs.publish(blobs.write(iter([PACKAGE]), limit_bytes=1000), complete)
    return pending


def create(http: FlaskClient, job_id: str, **fields: object) -> dict[str, object]:
    answer = http.post(URL, json={"export_job_id": job_id, "name": "digits", **fields})
    assert answer.status_code == 202, answer.text
    return dict(answer.json)


def test_the_key_is_told_once_and_kept_as_a_hash(
    http: FlaskClient, verified: str, database: Database
) -> None:
    created = create(http, verified, deployment_type="platform_endpoint", description="for a test")
    key = str(created.pop("api_key"))
    assert key.startswith("pk_")
    assert len(key) > 40
    assert created["status"] == "pending"
    assert str(created["endpoint_url"]).endswith(f"/v1/infer/{created['id']}")
    read = http.get(f"{URL}/{created['id']}").json
    assert read == created
    assert set(read) == set(Deployment.model_fields)
    stored = database.api_keys.find_one({"deployment_id": created["id"]})
    assert stored is not None
    assert stored["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert key not in str(stored)


def test_only_a_verified_export_is_deployed(http: FlaskClient, pending: str) -> None:
    answer = http.post(URL, json={"export_job_id": pending, "name": "digits"})
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "not_verified")
    assert answer.json["error"]["details"] == {"status": "pending", "verdict": None}


def test_lists_are_paged_and_filtered(http: FlaskClient, verified: str) -> None:
    ids = [create(http, verified)["id"] for _ in range(3)]
    page = http.get(f"{URL}?page=1&limit=2&status=pending").json
    assert [found["id"] for found in page["deployments"]] == [ids[2], ids[1]]
    assert page["pagination"]["total"] == 3
    assert http.get(f"{URL}?status=active").json["deployments"] == []


def test_a_deleted_deployment_leaves_no_key_and_keeps_its_history(
    http: FlaskClient, verified: str, database: Database
) -> None:
    created = create(http, verified)
    assert http.delete(f"{URL}/{created['id']}").json["deleted_id"] == created["id"]
    assert http.get(f"{URL}/{created['id']}").status_code == 404
    assert http.delete(f"{URL}/{created['id']}").status_code == 404
    assert database.api_keys.count_documents({}) == 0
    assert database.deployment_history.count_documents({"event_type": "deleted"}) == 1


def test_a_deployment_holds_on_to_its_package(http: FlaskClient, verified: str, database: Database) -> None:
    package = {"metadata.sha256": hashlib.sha256(PACKAGE).hexdigest()}

    def references() -> int:
        found = database.files.find_one(package)
        assert found is not None
        return int(found["metadata"]["references"])

    assert references() == 1
    created = create(http, verified)
    assert references() == 2
    http.delete(f"{URL}/{created['id']}")
    assert references() == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"deployment_type": "container"}, "unsupported_option"),
        ({"config": {"gpu_enabled": True}}, "unsupported_option"),
        ({"deployment_type": "moon"}, "invalid_field"),
        ({"name": "a/b"}, "invalid_field"),
        ({"replicas": 3}, "invalid_field"),
    ],
)
def test_what_is_not_offered_is_refused(
    http: FlaskClient, verified: str, fields: dict[str, object], code: str
) -> None:
    answer = http.post(URL, json={"export_job_id": verified, "name": "digits", **fields})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, code)
    assert http.get(URL).json["deployments"] == []


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
    assert database.api_keys.count_documents({"deployment_id": first.json["id"]}) == 1
