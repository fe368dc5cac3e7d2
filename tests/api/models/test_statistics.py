"""The statistics' routes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.actor import Actor, Permission, acting_as
from model_service.api.http.context import EXTENSION
from model_service.api.schemas.statistics import size_text
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.factories import new_model


def register(http: FlaskClient, **fields: Any) -> str:
    answer = http.post("/api/v1/models", json=new_model(**fields))
    assert answer.status_code == 201, answer.json
    return str(answer.json["model_id"])  # type: ignore[index]


def upload(http: FlaskClient, model_id: str, data: bytes) -> None:
    assert http.post(f"/api/v1/models/{model_id}/upload", data=data).status_code == 201


def download(http: FlaskClient, model_id: str, times: int = 1) -> None:
    for _ in range(times):
        answer = http.get(f"/api/v1/models/{model_id}/download")
        assert answer.status_code == 200
        answer.close()


def statistics(http: FlaskClient) -> dict[str, Any]:
    answer = http.get("/api/v1/statistics")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json  # type: ignore[assignment]
    return found


def test_both_routes_answer_in_both_forms(http: FlaskClient) -> None:
    for number in range(3):
        register(http, algorithm="svm" if number else "xgboost")
    found = http.get("/api/v1/models/statistics").json
    assert found == statistics(http)
    assert found == {
        "total_models": 3,
        "algorithms": {"svm": 2, "xgboost": 1},
        "models_by_algorithm": {"svm": 2, "xgboost": 1},
        "status_distribution": {"active": 3},
        "models_by_status": {"active": 3},
        "total_downloads": 0,
        "storage_usage": {
            "total_size_bytes": 0,
            "total_size_gb": 0.0,
            "average_model_size_mb": 0.0,
            "stored_size_bytes": 0,
        },
        "storage_stats": {"total_size": "0 B", "average_model_size": "0 B"},
        "recent_activity": {
            "models_added_last_7_days": 3,
            "downloads_last_24_hours": 0,
            "models_created_today": 3,
            "models_downloaded_today": 0,
        },
    }


def test_an_empty_registry(http: FlaskClient) -> None:
    found = statistics(http)
    assert found["total_models"] == 0
    assert found["algorithms"] == {}


def test_a_status_and_a_deletion_move_the_counts(http: FlaskClient) -> None:
    kept, gone = register(http), register(http)
    http.put(f"/api/v1/models/{kept}", json={"status": "deprecated", "algorithm": "svm"})
    http.delete(f"/api/v1/models/{gone}")
    found = statistics(http)
    assert found["models_by_status"] == {"deprecated": 1}
    assert found["models_by_algorithm"] == {"svm": 1}
    assert found["recent_activity"]["models_created_today"] == 1


def test_equal_files_are_stored_once_and_counted_for_each_model(http: FlaskClient) -> None:
    for _ in range(2):
        upload(http, register(http), b"x" * 1_500_000)
    found = statistics(http)
    assert found["storage_usage"] == {
        "total_size_bytes": 3_000_000,
        "total_size_gb": 0.003,
        "average_model_size_mb": 1.5,
        "stored_size_bytes": 1_500_000,
    }
    assert found["storage_stats"] == {"total_size": "3.0 MB", "average_model_size": "1.5 MB"}


def test_what_the_sweep_removes_is_no_longer_stored(http: FlaskClient, database: Database) -> None:
    model_id = register(http)
    upload(http, model_id, b"first")
    url = f"/api/v1/models/{model_id}"
    assert http.post(f"{url}/upload?replace=true", data=b"second").status_code == 201
    (replaced,) = http.get(f"{url}/deleted-files").json["files"]
    assert http.delete(f"{url}/deleted-files/{replaced['id']}").status_code == 200
    build_stores(database).blobs.sweep(safety_s=0)
    assert statistics(http)["storage_usage"]["stored_size_bytes"] == len(b"second")


def test_downloads_are_counted_on_the_model_and_by_day(http: FlaskClient) -> None:
    model_id = register(http)
    upload(http, model_id, b"weights")
    download(http, model_id, 3)
    found = statistics(http)
    assert found["total_downloads"] == 3
    assert found["recent_activity"]["downloads_last_24_hours"] == 3
    assert found["recent_activity"]["models_downloaded_today"] == 3
    assert http.get(f"/api/v1/models/{model_id}").json["download_count"] == 3  # type: ignore[index]
    by_day = http.get("/api/v1/statistics/downloads?days=7").json
    assert by_day is not None
    assert [day["downloads"] for day in by_day["days"]] == [0, 0, 0, 0, 0, 0, 3]
    days = [date.fromisoformat(day["date"]) for day in by_day["days"]]
    assert (days[-1] - days[0]).days == 6
    assert by_day["total"] == 3


def test_a_download_survives_its_model_in_the_statistics(http: FlaskClient) -> None:
    model_id = register(http)
    upload(http, model_id, b"weights")
    download(http, model_id)
    http.delete(f"/api/v1/models/{model_id}?purge=true")
    assert statistics(http)["total_downloads"] == 1


def test_concurrent_downloads_are_all_counted(app: Flask) -> None:
    with app.test_client() as http:
        model_ids = [register(http) for _ in range(3)]
        for model_id in model_ids:
            upload(http, model_id, b"weights")
    together = threading.Barrier(8)

    def work(number: int) -> None:
        together.wait(timeout=30)
        with app.test_client() as client:
            download(client, model_ids[number % 3], 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with app.test_client() as http:
        counts = [http.get(f"/api/v1/models/{one}").json["download_count"] for one in model_ids]  # type: ignore[index]
        assert counts == [30, 30, 20]
        assert statistics(http)["total_downloads"] == 80


@pytest.mark.parametrize("days", ["0", "367", "x"])
def test_days_have_bounds(http: FlaskClient, days: str) -> None:
    assert http.get(f"/api/v1/statistics/downloads?days={days}").status_code == 422


def test_popular_and_recent(http: FlaskClient) -> None:
    first, second, third = (register(http, name=name) for name in ("first", "second", "third"))
    for model_id, times in ((second, 2), (third, 1)):
        upload(http, model_id, model_id.encode())
        download(http, model_id, times)
    popular = http.get("/api/v1/models/popular?limit=2").json["models"]  # type: ignore[index]
    assert [(model["id"], model["download_count"]) for model in popular] == [(second, 2), (third, 1)]
    recent = http.get("/api/v1/models/recent").json["models"]  # type: ignore[index]
    assert [model["id"] for model in recent] == [third, second, first]
    assert recent[2] == http.get(f"/api/v1/models/{first}").json
    assert http.get("/api/v1/models/recent?limit=101").status_code == 422


def test_statistics_are_of_the_namespaces_that_may_be_read(http: FlaskClient, app: Flask) -> None:
    for name in ("vision/a", "vision/b", "speech/c", "plain"):
        upload(http, register(http, name=name), b"12345")
    reader = Actor("reader", in_namespaces={"vision": frozenset({Permission.READ})})
    with acting_as(reader):
        found = app.extensions[EXTENSION].services.statistics.registry()
    assert (found.models, found.size_bytes, found.stored_bytes) == (2, 10, None)


def test_an_old_database_is_counted_at_the_start(http: FlaskClient, database: Database) -> None:
    model_id = register(http)
    upload(http, model_id, b"weights")
    download(http, model_id)
    for collection in (database.model_counters, database.blob_counters, database.download_counters):
        collection.delete_many({})
    build_stores(database).counters.ensure()
    found = statistics(http)
    assert (found["total_models"], found["total_downloads"]) == (1, 1)
    assert found["storage_usage"]["stored_size_bytes"] == len(b"weights")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_999, "1.0 MB"),
        (15_400_000, "15.4 MB"),
        (2_300_000_000, "2.3 GB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_sizes_as_a_person_reads_them(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
