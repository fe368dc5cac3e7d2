from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.factories import new_model

UNKNOWN = "507f1f77bcf86cd799439011"
MODELS = "/api/v1/models"


def register(http: FlaskClient, **fields: Any) -> str:
    answer = http.post(MODELS, json=new_model(**fields))
    assert answer.status_code == 201, answer.json
    return str(answer.json["model_id"])


def version(http: FlaskClient, **fields: Any) -> str:
    return str(http.post(MODELS, json=new_model(**fields)).json["version"])


def url(reference: str) -> str:
    return f"{MODELS}/{quote(reference, safe='')}"


def test_a_breaking_change_gets_the_next_major_version(http: FlaskClient) -> None:
    assert version(http, breaking_changes=True) == "v1.0"
    assert version(http) == "v1.1"
    assert version(http, breaking_changes=True) == "v2.0"
    assert version(http) == "v2.1"
    assert version(http, version="v7.3", breaking_changes=True) == "v7.3"


def test_a_version_in_the_trash_is_not_given_again(http: FlaskClient) -> None:
    register(http)
    newest = register(http)
    http.delete(f"{MODELS}/{newest}")
    assert version(http) == "v1.2"
    assert http.post(MODELS, json=new_model(version="v1.1")).status_code == 409


def test_a_version_is_made_from_another(http: FlaskClient) -> None:
    fields = {
        "tags": ["a"],
        "hyperparameters": {"depth": 3},
        "signature": {"in": "float"},
        "description": "d",
    }
    base = register(http, **fields)
    register(http, breaking_changes=True)
    made = http.post(f"{MODELS}/{base}/versions", json={"metrics": {"accuracy": 0.95}, "description": None})
    assert made.status_code == 201
    assert made.json["version"] == "v1.1"  # in its parent's major version
    model = http.get(made.headers["Location"]).json
    assert model["parent_model_id"] == base
    assert model["metrics"] == {"accuracy": 0.95}
    assert model["description"] is None
    assert (model["tags"], model["hyperparameters"]) == (["a"], {"depth": 3})
    assert model["signature"] == {"in": "float"}
    assert (model["files"], model["status"], model["download_count"]) == ([], "active", 0)
    breaking = http.post(f"{MODELS}/{base}/versions", json={"breaking_changes": True})
    assert breaking.json["version"] == "v3.0"
    assert http.post(f"{MODELS}/{UNKNOWN}/versions", json={}).status_code == 404
    assert http.post(f"{MODELS}/{base}/versions", json={"name": "other"}).status_code == 422
    assert http.post(f"{MODELS}/{base}/versions", json={"version": "v3.0"}).status_code == 409


def test_a_version_can_have_its_parents_files(http: FlaskClient) -> None:
    base = register(http)
    http.post(f"{MODELS}/{base}/upload", data=b"weights", headers={"X-Filename": "m.pt"})
    bare = http.post(f"{MODELS}/{base}/versions", json={}).json["model_id"]
    copy = http.post(f"{MODELS}/{base}/versions", json={"copy_files": True}).json["model_id"]
    http.delete(f"{MODELS}/{base}?purge=true")
    assert http.get(f"{MODELS}/{bare}/download").status_code == 404
    assert http.get(f"{MODELS}/{copy}/download").data == b"weights"
    assert http.get(f"{MODELS}/{copy}").json["size_bytes"] == 7


def test_a_parent_must_exist_and_may_be_a_reference(http: FlaskClient) -> None:
    base = register(http)
    child = register(http, name="child", parent_model_id="models:/digits/v1.0")
    assert http.get(f"{MODELS}/{child}").json["parent_model_id"] == base
    for parent, status in ((UNKNOWN, 404), ("models:/digits/v9.9", 404), ("models:/x", 400), ("zzz", 400)):
        answer = http.post(MODELS, json=new_model(parent_model_id=parent))
        assert answer.status_code == status, parent


@pytest.mark.parametrize("name", ["digits", "vision/digits"])
def test_references_name_a_version_wherever_an_id_does(http: FlaskClient, name: str) -> None:
    first = register(http, name=name)
    second = register(http, name=name, version="v2")
    http.put(f"{MODELS}/{first}/aliases/production")
    found = {
        f"models:/{name}/v1.0": first,
        f"models:/{name}/1.0": first,
        f"models:/{name}/v1": first,
        f"models:/{name}/2": second,
        f"models:/{name}@production": first,
        f"models:/{name}/latest": second,
    }
    for reference, model_id in found.items():
        assert http.get(url(reference)).json["id"] == model_id, reference
        assert http.get(f"{MODELS}/{reference}").json["id"] == model_id, reference  # slashes and all
    changed = http.patch(url(f"models:/{name}@production"), json={"tags": ["x"]})
    assert (changed.json["id"], changed.json["tags"]) == (first, ["x"])
    http.patch(f"{MODELS}/{second}", json={"status": "archived"})
    assert http.get(url(f"models:/{name}/latest")).json["id"] == first
    http.post(f"{url(f'models:/{name}/latest')}/upload", data=b"x")
    assert http.get(f"{url(f'models:/{name}@production')}/download").data == b"x"
    deleted = http.delete(url(f"models:/{name}/v2"))
    assert deleted.json["deleted_id"] == second


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("models:/digits/v1.5", 404),
        ("models:/digits@nobody", 404),
        ("models:/unknown/latest", 404),
        ("models:/digits/1.2.3", 404),  # no such route
        ("models:/digits/v01", 400),
        ("models:digits", 400),
        ("digits", 400),
    ],
)
def test_what_refers_to_nothing_is_said(http: FlaskClient, reference: str, status: int) -> None:
    register(http)
    answer = http.get(url(reference))
    assert answer.status_code == status
    assert answer.json["error"]["message"]


def test_every_change_counts_and_is_the_etag(http: FlaskClient) -> None:
    model_id = register(http)
    model = f"{MODELS}/{model_id}"
    assert http.get(model).headers["ETag"] == '"r1"'
    changed = http.patch(model, json={"tags": ["a"]})
    assert (changed.headers["ETag"], changed.json["revision"]) == ('"r2"', 2)
    assert http.patch(model, json={"tags": ["a"]}).json["revision"] == 2  # nothing changed
    assert http.patch(model, json={"metrics": {"accuracy": 1}}).json["revision"] == 3
    assert http.patch(model, json={"metrics": {"accuracy": True}}).json["revision"] == 4
    http.post(f"{model}/upload", data=b"x")
    read = http.get(model)
    assert (read.headers["ETag"], read.json["revision"]) == ('"r5"', 5)
    same = http.get(model, headers={"If-None-Match": '"r5"'})
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", '"r5"')
    assert http.get(model, headers={"If-None-Match": '"r4"'}).status_code == 200


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_change_of_another_revision_is_refused(http: FlaskClient, method: str) -> None:
    model = f"{MODELS}/{register(http)}"
    change = getattr(http, method)
    assert change(model, json={"tags": ["a"]}, headers={"If-Match": '"r1"'}).status_code == 200
    for sent in ('"r1"', '"other"', 'W/"r2"', '"r1", "r3"'):
        stale = change(model, json={"tags": ["b"]}, headers={"If-Match": sent})
        assert (stale.status_code, stale.json["error"]["code"]) == (412, "precondition_failed"), sent
        assert stale.json["error"]["details"]["etag"] == '"r2"'
    assert http.get(model).json["tags"] == ["a"]
    assert change(model, json={"tags": ["b"]}, headers={"If-Match": '"r1", "r2"'}).status_code == 200
    assert change(model, json={"tags": ["c"]}, headers={"If-Match": "*"}).json["tags"] == ["c"]


def test_null_clears_what_may_be_empty(http: FlaskClient) -> None:
    model = f"{MODELS}/{register(http, description='d', signature={'in': 1}, task_type='t')}"
    cleared = http.patch(model, json={"description": None, "signature": None, "task_type": None}).json
    assert (cleared["description"], cleared["signature"], cleared["task_type"]) == (None, None, None)
    assert cleared["framework"] == "pytorch"
    for field in ("algorithm", "metrics", "tags", "status"):
        assert http.patch(model, json={field: None}).status_code == 422


def test_a_status_changes_along_its_transitions(http: FlaskClient) -> None:
    model = f"{MODELS}/{register(http)}"
    for status in (
        "active",
        "deprecated",
        "active",
        "archived",
        "archived",
        "active",
        "deprecated",
        "archived",
    ):
        assert http.patch(model, json={"status": status}).json["status"] == status
    refused = http.put(model, json={"status": "deprecated", "tags": ["x"]})
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")
    assert refused.json["error"]["details"]["allowed"] == ["active"]
    assert http.get(model).json["tags"] == []


def test_an_archived_versions_files_stay_as_they_are(http: FlaskClient) -> None:
    model = f"{MODELS}/{register(http)}"
    http.post(f"{model}/upload", data=b"kept")
    http.patch(model, json={"status": "archived"})
    assert http.post(f"{model}/upload", data=b"other").status_code == 409
    assert http.get(f"{model}/download").data == b"kept"
    assert http.patch(model, json={"description": "why"}).status_code == 200


def test_models_are_found_by_reference_in_the_openapi_document(http: FlaskClient) -> None:
    paths = http.get("/openapi.json").json["paths"]
    assert "/api/v1/models/{model_id}" in paths
    assert "/api/v1/models/{model_id}/compare/{other_id}" in paths
    assert not [path for path in paths if "model_ref" in path or "<" in path]
