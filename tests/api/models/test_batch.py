from typing import Any

from flask.testing import FlaskClient

from tests.api.models.test_versions import MODELS, UNKNOWN, register


def run(http: FlaskClient, *operations: dict[str, Any]) -> Any:
    answer = http.post(f"{MODELS}/batch", json={"operations": list(operations)})
    assert answer.status_code == 200, answer.json
    return answer.json


def test_each_operation_stands_alone(http: FlaskClient) -> None:
    first, second, third = register(http, tags=["a"]), register(http), register(http)
    http.delete(f"{MODELS}/{third}")
    found = run(
        http,
        {"op": "tag", "id": first, "tags": ["b", "a"]},
        {"op": "untag", "id": "models:/digits/v1.0", "tags": ["a"]},
        {"op": "status", "id": second, "status": "archived"},
        {"op": "status", "id": second, "status": "deprecated"},
        {"op": "alias", "id": first, "alias": "production"},
        {"op": "alias", "id": second, "alias": "production"},
        {"op": "alias", "id": first, "alias": "latest"},
        {"op": "restore", "id": third},
        {"op": "delete", "id": "models:/digits@production"},
        {"op": "delete", "id": UNKNOWN},
        {"op": "tag", "id": "nonsense", "tags": ["x"]},
    )
    assert [item["index"] for item in found["results"]] == list(range(11))
    assert [item["status"] for item in found["results"]] == [
        200, 200, 200, 409, 200, 409, 422, 200, 200, 404, 400,
    ]  # fmt: skip
    assert (found["success"], found["succeeded"], found["failed"]) == (False, 6, 5)
    assert found["results"][1]["id"] == found["results"][8]["id"] == first
    failed = found["results"][3]
    assert (failed["ok"], failed["id"], failed["error"]["code"]) == (False, second, "conflict")
    assert failed["error"]["details"]["allowed"] == ["active"]
    assert http.get(f"{MODELS}/{second}").json["status"] == "archived"
    assert http.get(f"{MODELS}/{third}").status_code == 200
    trash = http.get(f"{MODELS}/deleted").json["models"]
    assert [(model["id"], model["tags"]) for model in trash] == [(first, ["b"])]


def test_a_batch_of_one_kind_tags_many(http: FlaskClient) -> None:
    ids = [register(http) for _ in range(20)]
    found = run(http, *({"op": "tag", "id": model_id, "tags": ["swept"]} for model_id in ids))
    assert (found["success"], found["succeeded"]) == (True, 20)
    assert http.get(f"{MODELS}?tags=swept").json["pagination"]["total"] == 20
    many = [f"t{number}" for number in range(100)]
    full = run(http, {"op": "tag", "id": ids[0], "tags": many})["results"][0]
    assert (full["status"], full["error"]["code"]) == (422, "invalid_field")


def test_a_batch_that_makes_no_sense_changes_nothing(http: FlaskClient) -> None:
    model_id = register(http)
    good = {"op": "tag", "id": model_id, "tags": ["x"]}
    for operations in (
        [],
        [good, {"op": "rename", "id": model_id}],
        [good, {"op": "tag", "id": model_id}],
        [good, {"op": "delete", "id": model_id, "tags": ["x"]}],
        [good, {"op": "status", "id": model_id, "status": "gone"}],
        [good] * 1001,
    ):
        answer = http.post(f"{MODELS}/batch", json={"operations": operations})
        assert answer.status_code == 422
    assert http.get(f"{MODELS}/{model_id}").json["tags"] == []
