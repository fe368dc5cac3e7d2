"""Exports that can be deployed, without a conversion, and deployments of them."""

from typing import Any

from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from tests.api.finished import complete
from tests.factories import new_model

URL = "/api/v1/deployments"


def exported(
    http: FlaskClient,
    database: Database,
    *,
    verdict: str = "verified",
    name: str = "digits",
    package: bytes | None = None,
    **results: Any,
) -> str:
    """A completed export of another version of the model, with a package of its own."""
    model: Any = http.post("/api/v1/models", json=new_model(name=name)).json
    http.post(f"/api/v1/models/{model['model_id']}/upload", data=b"some bytes")
    body = {"model_id": model["model_id"], "export_format": "onnx", "reuse": False}
    job_id = str(http.post("/api/v1/export/jobs", json=body).json["id"])  # type: ignore[index]
    complete(database, job_id, package or f"the package of {name} {model['version']}".encode())
    if verdict != "verified" or results:
        changes = {"fidelity": {"verdict": verdict}, **results}
        database.export_jobs.update_one({"_id": job_id}, {"$set": changes})
    return job_id


def deploy(http: FlaskClient, **fields: Any) -> dict[str, Any]:
    """What the registry answers; a body is refused unless it names what to deploy."""
    answer = http.post(URL, json={"name": "digits", **fields})
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return dict(answer.json)


def events(http: FlaskClient, deployment_id: str) -> list[str]:
    """The types of what happened, oldest first."""
    history: Any = http.get(f"{URL}/{deployment_id}/history").json
    return [event["event_type"] for event in reversed(history["history"])]
