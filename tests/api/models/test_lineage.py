from typing import Any

from flask.testing import FlaskClient

from model_service.api.schemas.models import Model
from model_service.services.models.comparison import _FIELDS
from tests.api.models.test_versions import MODELS, UNKNOWN, register, url
from tests.factories import new_model


def lineage(http: FlaskClient, model_id: str, query: str = "") -> Any:
    answer = http.get(f"{MODELS}/{model_id}/lineage{query}")
    assert answer.status_code == 200, answer.json
    return answer.json


def ids(models: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(model["id"], model["depth"]) for model in models]


def test_lineage_goes_up_and_down(http: FlaskClient) -> None:
    data = http.post("/api/v1/datasets", json={"name": "mnist"}).json["id"]
    uses = [{"dataset_id": data, "role": "validation"}]
    run = http.post("/api/v1/training", json={"name": "run", "datasets": uses}).json["id"]
    root = register(http, name="root")
    middle = register(http, name="middle", parent_model_id=root, training_job_id=run)
    left = register(http, name="left", parent_model_id=middle)
    right = register(http, name="right", parent_model_id=middle)
    leaf = register(http, name="leaf", parent_model_id=left)
    register(http, name="stranger")
    found = lineage(http, middle)
    assert ids(found["ancestors"]) == [(root, 1)]
    assert ids(found["descendants"]) == [(left, 1), (right, 1), (leaf, 2)]
    assert (found["truncated"], found["training_job_id"]) == (False, run)
    assert [dataset.items() >= uses[0].items() for dataset in found["datasets"]] == [True]
    assert found["model"]["id"] == middle
    top = lineage(http, root)
    assert (top["ancestors"], top["datasets"]) == ([], [])
    assert ids(lineage(http, leaf)["ancestors"]) == [(left, 1), (middle, 2), (root, 3)]
    cut = lineage(http, root, "?limit=2")
    assert (ids(cut["descendants"]), cut["truncated"]) == ([(middle, 1), (left, 2)], True)
    whole = lineage(http, root, "?limit=4")
    assert (len(whole["descendants"]), whole["truncated"]) == (4, False)
    http.delete(f"{MODELS}/{middle}")
    assert ids(lineage(http, leaf)["ancestors"]) == [(left, 1)]
    assert http.get(f"{MODELS}/{UNKNOWN}/lineage").status_code == 404


def test_a_long_chain_is_followed_to_its_end(http: FlaskClient) -> None:
    chain = [register(http)]
    for _ in range(204):
        made = http.post(f"{MODELS}/{chain[-1]}/versions", json={})
        chain.append(made.json["model_id"])
    up = lineage(http, chain[-1])["ancestors"]
    assert ids(up) == [(model_id, depth) for depth, model_id in enumerate(reversed(chain[:-1]), start=1)]


def test_a_comparison_names_what_differs(http: FlaskClient) -> None:
    first = register(
        http,
        metrics={"accuracy": 0.5, "per_class": {"a": 1, "b": 2}, "old": 1, "note": "x"},
        hyperparameters={"depth": 3, "layers": [1, 2], "flag": 1},
        tags=["kept", "gone"],
        dataset_info={"features": ["a"]},
        signature={"input": {"dtype": "float32"}},
    )
    second = register(
        http,
        metrics={"accuracy": 0.75, "per_class": {"a": 1, "b": 4}, "new": 2, "note": "y"},
        hyperparameters={"depth": 3, "layers": [1, 2, 3], "flag": True},
        tags=["kept", "come"],
        dataset_info={"features": ["a", "b"]},
        signature={"input": {"dtype": "float16"}},
    )
    http.post(f"{MODELS}/{first}/upload", data=b"one", headers={"X-Filename": "m.pt"})
    http.post(f"{MODELS}/{second}/upload", data=b"two", headers={"X-Filename": "m.pt"})
    found = http.get(f"{MODELS}/{first}/compare/{second}").json
    assert (found["from"]["version"], found["to"]["version"]) == ("v1.0", "v1.1")
    assert found["metrics"] == {
        "added": {"new": 2},
        "removed": {"old": 1},
        "changed": {
            "accuracy": {"from": 0.5, "to": 0.75, "delta": 0.25, "relative_delta": 0.5},
            "per_class.b": {"from": 2, "to": 4, "delta": 2, "relative_delta": 1.0},
            "note": {"from": "x", "to": "y"},
        },
    }
    assert found["hyperparameters"]["changed"] == {
        "layers": {"from": [1, 2], "to": [1, 2, 3]},
        "flag": {"from": 1, "to": True},
    }
    assert found["tags"] == {"added": ["come"], "removed": ["gone"]}
    assert list(found["files"]["changed"]) == ["m.pt"]
    assert found["signature"]["changed"] == {
        "input.dtype": {"from": "float32", "to": "float16"},
        "features": {"from": ["a"], "to": ["a", "b"]},
    }
    by_reference = http.get(
        f"{url('models:/digits/v1.0')}/compare/{url('models:/digits/latest')[len(MODELS) + 1 :]}"
    )
    assert by_reference.json == found
    same = http.get(f"{MODELS}/{first}/compare/{first}").json
    assert same["metrics"] == {"added": {}, "removed": {}, "changed": {}}
    assert http.get(f"{MODELS}/{first}/compare/{UNKNOWN}").status_code == 404


# Each model has its own, or they follow from what is compared.
NOT_COMPARED = {
    *("id", "namespace", "version", "revision", "created_at", "updated_at", "download_count"),
    *("size_bytes", "model_size", "file_metadata"),
}


def test_a_new_field_of_models_is_compared() -> None:
    compared = {
        *_FIELDS,
        "metrics",
        "hyperparameters",
        "tags",
        "files",
        "dataset_info",
        "signature",
        "evaluations",
    }
    assert set(Model.model_fields) == compared | NOT_COMPARED


def test_every_field_that_differs_is_compared(http: FlaskClient) -> None:
    dataset = http.post("/api/v1/datasets", json={"name": "scans"}).json["id"]  # type: ignore[index]
    first = register(http, algorithm="cnn", framework="pytorch", metrics={"loss": 0}, description="a")
    second = register(
        http,
        algorithm="forest",
        framework="sklearn",
        metrics={"loss": 1},
        task_type="classification",
        parent_model_id=first,
        dataset_ids=[dataset],
        dataset_info={"size": 3},
    )
    http.put(f"{MODELS}/{second}/aliases/production")
    found = http.get(f"{MODELS}/{first}/compare/{second}").json
    assert found["fields"] == {
        "changed": {
            "algorithm": {"from": "cnn", "to": "forest"},
            "framework": {"from": "pytorch", "to": "sklearn"},
        },
        "removed": {"description": "a"},
        "added": {
            "task_type": "classification",
            "parent_model_id": first,
            "dataset_ids": [dataset],
            "aliases": ["production"],
        },
    }
    assert found["metrics"]["changed"] == {"loss": {"from": 0, "to": 1, "delta": 1}}  # no share of nothing
    assert found["dataset_info"]["added"] == {"size": 3}


def test_an_empty_training_job_is_none(http: FlaskClient) -> None:
    made: Any = http.post("/api/v1/models", json=new_model(training_job_id="")).json
    lineage: Any = http.get(f"/api/v1/models/{made['model_id']}/lineage")
    assert (lineage.status_code, lineage.json["training_job_id"]) == (200, None)
