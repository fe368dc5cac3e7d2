"""A page costs as many questions to MongoDB as another one, however many rows it has."""

from typing import Any

import pytest
from flask import Flask
from prometheus_client import REGISTRY

from model_service.app import create_app
from model_service.config import Settings
from tests.api.people import Caller
from tests.factories import new_model

ROWS = 24
FEW, MANY = 3, 20


def asked() -> float:
    """How many commands this process has sent."""
    (metric,) = (one for one in REGISTRY.collect() if one.name == "model_service_mongodb_operations")
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


@pytest.fixture
def app(settings: Settings) -> Flask:
    """Lists of everything, each longer than the pages that are asked for."""
    app = create_app(settings)
    anybody = Caller(app)

    def made(path: str, body: dict[str, Any]) -> Any:
        return anybody("POST", f"/api/v1{path}", json=body, status=None).json

    dataset = made("/datasets", {"name": "data", "format": "npz", "purpose": "training"})["id"]
    run = {"name": "run", "algorithm": "cnn", "datasets": [{"dataset_id": dataset}]}
    parent = None
    for n in range(ROWS):
        job = made("/training", run)["id"]
        body = new_model(name="m", tags=["a"], training_job_id=job, dataset_ids=[dataset])
        model = made("/models", body | ({"parent_model_id": parent} if parent else {}))["model_id"]
        parent = parent or model
        anybody("PUT", f"/api/v1/models/{model}/aliases/a{n}", status=200)
        for path in ("weights", "tokenizer"):
            anybody("PUT", f"/api/v1/models/{model}/files/{path}", data=b"%d" % n, status=201)
        made("/export/jobs", {"model_id": model, "export_format": "onnx"})
        made("/datasets", {"name": "other", "format": "npz", "purpose": "training"})
        made("/keys", {"name": "k", "scopes": ["read"]})
        made("/users", {"name": f"u{n}"})
        gone = made("/models", new_model(name="gone"))["model_id"]
        anybody("DELETE", f"/api/v1/models/{gone}", status=200)
    for _ in range(ROWS):
        made("/export/jobs", {"model_id": model, "export_format": "onnx"})
    app.config["PARENT"], app.config["DATASET"] = parent, dataset
    app.config["MODEL"], app.config["RUN"] = model, job
    return app


def test_no_list_asks_once_for_each_row(app: Flask) -> None:
    anybody = Caller(app)
    lists = {
        "models": "models",
        "models?tags=a&min_accuracy=0.5&q=convnet": "models",
        "models/search?name=m&sort=-version": "models",
        "models/popular": "models",
        "models/recent": "models",
        "models/deleted": "models",
        f"models/{app.config['PARENT']}/lineage": "descendants",
        "datasets": "datasets",
        f"datasets/{app.config['DATASET']}/usage": "training_jobs",
        "training": "training_jobs",
        "export/jobs": "jobs",
        f"models/{app.config['MODEL']}/exports": "jobs",
        f"training/{app.config['RUN']}/exports": "jobs",
        "keys": "keys",
        "users": "users",
        "audit": "entries",
    }
    for path, rows in lists.items():
        cost = []
        for limit in (FEW, MANY):
            before = asked()
            answer = anybody("GET", f"/api/v1/{path}{'&' if '?' in path else '?'}limit={limit}", status=200)
            cost.append(asked() - before)
            body: Any = answer.json
            assert len(body[rows]) == limit, path
        assert cost[0] == cost[1] <= 6, f"{path}: {cost}"
