from typing import Any

from flask.testing import FlaskClient

from model_service.api.schemas.models import Model
from tests.factories import new_model

UNKNOWN = "507f1f77bcf86cd799439011"
CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than two chunks

CHUNKED = {"Transfer-Encoding": "chunked"}


def upload(http: FlaskClient, model_id: str, content: bytes = CONTENT, **headers: str) -> Any:
    return http.post(f"/api/v1/models/{model_id}/upload", data=content, headers=headers)


def test_a_registered_model_can_be_read(http: FlaskClient) -> None:
    sent = new_model(tags=["production"], hyperparameters={"depth": 3}, dataset_info={"name": "digits"})
    answer = http.post("/api/v1/models", json=sent)
    assert answer.status_code == 201
    assert answer.json["success"] is True
    assert answer.json["version"] == "v1.0"
    model_id = answer.json["model_id"]
    assert answer.json["download_url"] == f"/api/v1/models/{model_id}/download"
    read = http.get(f"/api/v1/models/{model_id}").json
    assert {key: read[key] for key in sent} == sent
    assert read["status"] == "active"
    assert read["file_metadata"] is None
    assert set(read) == set(Model.model_fields)


def test_a_name_gets_its_next_version_unless_one_is_given(http: FlaskClient) -> None:
    versions = [http.post("/api/v1/models", json=new_model()).json["version"] for _ in range(3)]
    assert versions == ["v1.0", "v1.1", "v1.2"]
    assert http.post("/api/v1/models", json=new_model(version="v3")).json["version"] == "v3"
    assert http.post("/api/v1/models", json=new_model()).json["version"] == "v3.1"
    assert http.post("/api/v1/models", json=new_model(version="v3.999999")).status_code == 201
    assert http.post("/api/v1/models", json=new_model()).json["version"] == "v4.0"
    assert http.post("/api/v1/models", json=new_model(version="v3.0")).status_code == 409
    taken = http.post("/api/v1/models", json=new_model(version="v1.1"))
    assert taken.status_code == 409
    assert taken.json["error"]["code"] == "conflict"


def test_lists_are_paged_newest_first_and_filtered(http: FlaskClient) -> None:
    for number in range(5):
        http.post("/api/v1/models", json=new_model(tags=[f"t{number}"], metrics={"accuracy": number / 10}))
    http.post("/api/v1/models", json=new_model(name="other", algorithm="svm"))
    page = http.get("/api/v1/models?page=2&limit=2&algorithm=convnet").json
    assert [model["version"] for model in page["models"]] == ["v1.2", "v1.1"]
    assert page["pagination"].items() >= {"page": 2, "limit": 2, "total": 5, "pages": 3}.items()
    assert http.get("/api/v1/models?name=other").json["pagination"]["total"] == 1
    assert http.get("/api/v1/models?tags=t1, t4").json["pagination"]["total"] == 2
    assert http.get("/api/v1/models?tags=,").json["pagination"]["total"] == 6
    assert (
        http.get("/api/v1/models?min_accuracy=0.3").json["pagination"]["total"] == 3
    )  # 0.3, 0.4, other's 0.9


def test_changes_leave_the_rest_alone(http: FlaskClient, model_id: str) -> None:
    changed = http.put(f"/api/v1/models/{model_id}", json={"status": "archived", "tags": ["old"]}).json
    assert (changed["status"], changed["tags"]) == ("archived", ["old"])
    assert changed["metrics"] == new_model()["metrics"]
    assert http.put(f"/api/v1/models/{UNKNOWN}", json={"tags": []}).status_code == 404
    for field in ("name", "version", "download_count"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: "x"}).status_code == 422

    for field in ("algorithm", "hyperparameters", "metrics", "dataset_info", "tags", "status"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: None}).status_code == 422, field
    for field in ("description", "framework", "task_type"):
        assert http.put(f"/api/v1/models/{model_id}", json={field: None}).status_code == 200, field
    assert http.get("/api/v1/models").status_code == 200


def test_a_deleted_model_is_gone(http: FlaskClient, model_id: str) -> None:
    assert http.delete(f"/api/v1/models/{model_id}").json["deleted_id"] == model_id
    assert http.get(f"/api/v1/models/{model_id}").status_code == 404
    assert http.delete(f"/api/v1/models/{model_id}").status_code == 404
