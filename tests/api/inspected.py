"""Datasets that were inspected as a worker inspects them, without a child process."""

import io
from typing import Any

import numpy as np
from flask.testing import FlaskClient

from model_service.states import InspectionStatus
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores

DATASETS = "/api/v1/datasets"
FOUND = {
    "format": "npz",
    "task": "classification",
    "num_samples": 4,
    "inputs": [{"name": "x", "dtype": "float32", "shape": [4, 3]}],
    "label": {"name": "y", "dtype": "int64", "shape": [4]},
    "classes": None,
    "class_counts": {"0": 2, "1": 2},
    "first_rows": [],
    "warnings": [],
}


def arrays(rows: int = 4, features: int = 3) -> bytes:
    """A .npz file: float32[rows, features] ``x`` and labels int64[rows] ``y`` of two classes."""
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    np.savez(
        file,
        x=rng.random((rows, features), dtype=np.float32),
        y=np.arange(rows, dtype=np.int64) % 2,
    )
    return file.getvalue()


def uploaded(http: FlaskClient, content: bytes | None = None, **fields: Any) -> str:
    """A dataset with a data file, which no worker has inspected."""
    made = http.post(DATASETS, json={"name": "numbers", "format": "npz", **fields})
    assert made.status_code == 201, made.json
    dataset_id = str(made.json["id"])  # type: ignore[index]
    sent = http.post(
        f"{DATASETS}/{dataset_id}/upload", data=content or arrays(), headers={"X-Filename": "d.npz"}
    )
    assert sent.status_code == 201, sent.json
    return dataset_id


def inspect(
    database: Database, dataset_id: str, status: InspectionStatus = InspectionStatus.READY, **found: Any
) -> None:
    inspections = build_stores(database).inspections
    dataset = inspections.begin(dataset_id, 60)
    assert dataset is not None
    assert inspections.end(dataset, status, {**FOUND, **found})
