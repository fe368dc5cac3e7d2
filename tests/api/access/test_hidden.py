"""What may not be read is not there: no route answers otherwise about it than about what never was."""

import re
import uuid
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.api.access.test_matrix import TABLE, Things, request_of
from tests.api.people import Caller, People, secured

PARTS = re.compile(r"<(model_id|other_id|dataset_id|training_id|job_id|deployment_id|upload_id|key_id)>")
UUIDS = {"training_id", "job_id", "deployment_id", "key_id"}


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(secured(settings))


def answered(somebody: Caller, sent: tuple[str, str, dict[str, Any]], ids: dict[str, str]) -> tuple[int, str]:
    """The answer without what differs from request to request."""
    answer = somebody(sent[0], sent[1], **sent[2])
    text = re.sub(r'"request_id":"[^"]*"', "", answer.text)
    for value in ids.values():
        if len(value) > 12:  # no number, no short path
            text = text.replace(value, "ID")
    return answer.status_code, text


def test_what_may_not_be_read_is_answered_as_what_is_not_there(app: Flask, database: Database) -> None:
    people = People(app)
    somebody = people.user("somebody", namespaces={"vision": ["admin"]})
    services = app.extensions["model_service"].services
    things = Things(services, database, "audio")
    made = things.values(people.root)
    hidden = {name: make() for name, make in made.items()}
    in_the_trash = str(things.new_model()["_id"])
    services.models.delete(in_the_trash)
    absent = {
        name: str(uuid.uuid4() if name in UUIDS else ObjectId()) if PARTS.match(f"<{name}>") else value
        for name, value in hidden.items()
    }
    looked_at = 0
    for (method, rule), route in TABLE.items():
        if not PARTS.search(rule):
            continue
        for there in (hidden, hidden | {"model_id": in_the_trash}):
            answers = []
            for ids in (there, absent):
                path = re.sub(r"<(\w+)>", lambda part, ids=ids: ids[part[1]], rule)  # type: ignore[misc]
                sent = request_of(method, path, route, things, people.root)
                answers.append(answered(somebody, sent, ids))
            assert answers[0] == answers[1], f"{method} {rule}"
            assert answers[0][0] >= 400, f"{method} {rule}"
            looked_at += 1
    assert looked_at > 60


def test_so_it_is_with_what_a_request_names_beside_its_path(app: Flask, database: Database) -> None:
    people = People(app)
    somebody = people.user("somebody", namespaces={"vision": ["admin"]})
    services = app.extensions["model_service"].services
    secret, own = (Things(services, database, namespace) for namespace in ("audio", "vision"))
    made = secret.values(people.root)
    hidden = {"model": secret.model_id, "dataset": made["dataset_id"](), "job": made["training_id"]()}
    hidden |= {"name": secret.model["name"], "export": secret.exported()}
    people.root("PUT", f"/api/v1/models/{secret.model_id}/aliases/best", status=200)
    absent = {"model": str(ObjectId()), "dataset": str(ObjectId()), "job": str(uuid.uuid4())}
    absent |= {"name": "audio/nothing", "export": str(uuid.uuid4())}
    new, deployed = {"name": "vision/new", "algorithm": "cnn"}, own.deployed()
    for method, path, body in (
        ("GET", "/models?parent_model_id={model}", None),
        ("GET", "/models?name={name}", None),
        ("GET", "/models/search?q={name}&total=true", None),
        ("GET", "/models/models:%2F{name}@best", None),
        ("GET", f"/models/{own.model_id}/compare/{{model}}", None),
        ("GET", "/aliases?name={name}", None),
        ("GET", "/datasets?name={name}", None),
        ("GET", "/training?dataset_id={dataset}", None),
        ("GET", "/export/jobs?model_id={model}", None),
        ("POST", "/models", new | {"parent_model_id": "{model}"}),
        ("POST", "/models", new | {"parent_model_id": "models:/{name}/latest"}),
        ("POST", "/models", new | {"training_job_id": "{job}"}),
        ("POST", "/models", new | {"dataset_ids": ["{dataset}"]}),
        ("POST", "/models", {"name": "{name}", "algorithm": "cnn", "version": "v1.0"}),
        ("PATCH", f"/models/{own.model_id}", {"dataset_ids": ["{dataset}"]}),
        ("PATCH", f"/models/{own.model_id}", {"training_job_id": "{job}"}),
        ("POST", "/training", new | {"datasets": [{"dataset_id": "{dataset}"}]}),
        ("POST", "/export/jobs", {"model_id": "{model}", "export_format": "onnx"}),
        ("POST", "/export/jobs", {"training_job_id": "{job}", "export_format": "onnx"}),
        ("POST", "/deployments", {"export_job_id": "{export}", "name": "d"}),
        ("POST", "/deployments", {"models": {"a": "{export}"}, "name": "d"}),
        ("GET", "/deployments?export_job_id={export}", None),
        ("PATCH", f"/deployments/{deployed}", {"export_job_id": "{export}"}),
        ("PATCH", f"/deployments/{deployed}", {"shadow": {"export_job_id": "{export}", "share": 1}}),
        *(
            ("POST", "/models/batch", {"operations": [{"op": op, "id": "{model}"} | more]})
            for op, more in (
                ("tag", {"tags": ["x"]}),
                ("status", {"status": "archived"}),
                ("alias", {"alias": "x"}),
                ("delete", {"purge": True}),
                ("restore", {}),
            )
        ),
    ):
        answers = []
        for ids in (hidden, absent):
            sent = {} if body is None else {"json": _filled(body, ids)}
            answers.append(answered(somebody, (method, "/api/v1" + _filled(path, ids), sent), ids))
        assert answers[0] == answers[1], f"{method} {path} {body}"


def _filled(value: Any, ids: dict[str, str]) -> Any:
    match value:
        case str():
            return re.sub(r"\{(\w+)\}", lambda name: ids[name[1]], value)
        case dict():
            return {key: _filled(inner, ids) for key, inner in value.items()}
        case list():
            return [_filled(inner, ids) for inner in value]
    return value
