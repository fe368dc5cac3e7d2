"""Every request of the registry that the design documents show, as it stands; the fields of its response."""

import hashlib
from typing import Any

import pytest
from flask.testing import FlaskClient

URL = "/api/v1/models"
CHURN = {
    "name": "customer_churn_rf_v1",
    "algorithm": "random_forest",
    "hyperparameters": {"n_estimators": 150, "max_depth": 8, "random_state": 42},
    "metrics": {"accuracy": 0.9234, "precision": 0.8956, "recall": 0.9123, "f1_score": 0.9038},
    "dataset_info": {
        "name": "customer_data_2024",
        "features": ["age", "tenure", "monthly_charges", "total_charges"],
    },
    "tags": ["churn-prediction", "production"],
}
FRAUD = {
    "name": "fraud_detection_xgboost_v2",
    "algorithm": "xgboost",
    "hyperparameters": {"max_depth": 6, "learning_rate": 0.1, "n_estimators": 200},
    "metrics": {"train_accuracy": 0.9845, "test_accuracy": 0.9712, "f1_score": 0.9738},
    "version": "v2.1",
    "dataset_info": {"name": "credit_card_transactions", "size": "150MB", "features": 284},
    "created_by": "ml_engineer_01",
    "tags": ["production", "fraud-detection", "v2"],
    "status": "active",
}
SENTIMENT = {"name": "sentiment_analysis_bert", "algorithm": "transformer", "metrics": {"accuracy": 0.94}}


@pytest.fixture
def fraud(http: FlaskClient) -> str:
    for body in (CHURN, SENTIMENT):
        assert http.post(URL, json=body).status_code == 201
    model: Any = http.post(URL, json=FRAUD).json
    http.post(
        f"{URL}/{model['model_id']}/upload",
        data=b"a pickle",
        headers={"X-Filename": "fraud_detection_xgboost_v2.pkl"},
    )
    return str(model["model_id"])


def test_registration(http: FlaskClient) -> None:
    answer: Any = http.post(URL, json=CHURN)
    assert answer.status_code == 201
    model_id = answer.json["model_id"]
    assert answer.json == {
        "success": True,
        "message": "Model registered successfully",
        "model_id": model_id,
        "version": "v1.0",
        "download_url": f"/api/v1/models/{model_id}/download",
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {CHURN["name"], FRAUD["name"], SENTIMENT["name"]}),
        ("?algorithm=xgboost", {FRAUD["name"]}),
        ("?page=1&limit=10", {CHURN["name"], FRAUD["name"], SENTIMENT["name"]}),
        ("?tags=production,fraud-detection", {CHURN["name"], FRAUD["name"]}),
        ("?algorithm=transformer&min_accuracy=0.9", {SENTIMENT["name"]}),
        ("/search?q=fraud&algorithm=xgboost&min_accuracy=0.9&tags=production,v2", {FRAUD["name"]}),
    ],
)
def test_lists_and_searches(http: FlaskClient, fraud: str, query: str, names: set[str]) -> None:
    answer: Any = http.get(f"{URL}{query}").json
    assert {model["name"] for model in answer["models"]} == names
    assert answer["pagination"].keys() >= {"page", "limit", "total", "pages"}
    fields = {"id", "name", "algorithm", "version", "metrics", "created_at", "status", "download_count"}
    assert all(model.keys() >= fields for model in answer["models"])


def test_one_model(http: FlaskClient, fraud: str) -> None:
    model: Any = http.get(f"{URL}/{fraud}").json
    assert model.items() >= FRAUD.items()
    assert model.keys() >= {"id", "created_at", "updated_at", "model_size", "download_count"}
    assert model["file_metadata"].keys() >= {"file_id", "size_bytes", "checksum", "format"}
    changed: Any = http.put(f"{URL}/{fraud}", json={"tags": ["v2"], "status": "deprecated"})
    assert (changed.status_code, changed.json["status"]) == (200, "deprecated")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_download_and_its_headers(http: FlaskClient, fraud: str, method: str) -> None:
    answer = http.open(f"{URL}/{fraud}/download", method=method)
    assert answer.status_code == 200
    assert answer.data == (b"a pickle" if method == "GET" else b"")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Length"] == "8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="fraud_detection_xgboost_v2.pkl"'
    assert answer.headers["X-Model-Algorithm"] == "xgboost"
    assert answer.headers["X-Model-Version"] == "v2.1"
    assert answer.headers["X-File-Checksum"] == f"sha256:{hashlib.sha256(b'a pickle').hexdigest()}"


def test_statistics(http: FlaskClient, fraud: str) -> None:
    http.get(f"{URL}/{fraud}/download")
    of_models: Any = http.get(f"{URL}/statistics").json
    assert (of_models["total_models"], of_models["algorithms"]["xgboost"]) == (3, 1)
    assert of_models["status_distribution"]["active"] == 3
    assert of_models["total_downloads"] == 1
    assert of_models["storage_usage"].keys() >= {"total_size_gb", "average_model_size_mb"}
    assert (
        of_models["recent_activity"].items()
        >= {
            "models_added_last_7_days": 3,
            "downloads_last_24_hours": 1,
        }.items()
    )
    of_all: Any = http.get("/api/v1/statistics").json
    assert (of_all["total_models"], of_all["models_by_algorithm"]["random_forest"]) == (3, 1)
    assert of_all["models_by_status"]["active"] == 3
    assert of_all["storage_stats"].keys() >= {"total_size", "average_model_size"}
    assert (
        of_all["recent_activity"].items()
        >= {
            "models_created_today": 3,
            "models_downloaded_today": 1,
        }.items()
    )


@pytest.mark.parametrize("path", ["popular", "recent", "ID/info"])
def test_other_reads(http: FlaskClient, fraud: str, path: str) -> None:
    assert http.get(f"{URL}/{path.replace('ID', fraud)}").status_code == 200


def test_deletion(http: FlaskClient, fraud: str) -> None:
    answer: Any = http.delete(f"{URL}/{fraud}")
    assert (answer.status_code, answer.json) == (
        200,
        {"success": True, "message": "Model deleted successfully", "deleted_id": fraud},
    )


def test_health(http: FlaskClient) -> None:
    plain: Any = http.get("/health").json
    fields = {"status", "service", "mongodb_connected", "gridfs_available", "total_models", "timestamp"}
    assert plain.keys() >= fields
    detailed: Any = http.get("/health/detailed").json
    assert detailed["checks"].keys() >= {"mongodb", "gridfs", "disk_space", "model_registry"}
    assert detailed["metrics"].keys() >= {"total_models", "active_models", "storage_usage_gb"}


def test_metrics(http: FlaskClient, fraud: str) -> None:
    http.get(f"{URL}/{fraud}/download")
    text = http.get("/metrics").text
    for name in (
        *("model_downloads_total", "model_registrations_total", "active_models_total"),
        *("storage_usage_bytes", "api_request_duration_seconds", "model_service_models_total"),
        *("model_service_downloads_total", "model_service_api_requests_total"),
        *("model_service_request_duration_seconds", "model_service_mongodb_operations_total"),
    ):
        assert f"# TYPE {name} " in text, name


def test_capabilities(http: FlaskClient) -> None:
    answer: Any = http.get("/api/v1/export/capabilities?framework=ultralytics").json
    assert answer["framework"] == "ultralytics"
    for name in ("onnx", "tensorrt", "coreml", "tflite", "openvino", "torchscript"):
        fields = {"supported", "quality", "native", "preprocessing_embedded"}
        assert answer["formats"][name].keys() >= fields
        assert answer["formats"][name]["supported"] is True
