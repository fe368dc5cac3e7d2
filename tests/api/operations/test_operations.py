import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from model_service import metrics
from model_service.app import create_app
from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.storage.common.db import Database, now
from model_service.storage.operations.inference_servers import InferenceServers
from model_service.storage.operations.maintenance import Maintenance
from model_service.storage.operations.workers import Workers
from model_service.storage.stores import build_stores
from tests.api.inspected import inspect, uploaded
from tests.exposition import samples
from tests.factories import new_model
from tests.processes import environment


def test_health_says_what_works(http: FlaskClient, model_id: str) -> None:
    health = http.get("/health").json
    assert health["status"] == "healthy"
    assert health["service"] == "model-service"
    assert health["mongodb_connected"] is health["gridfs_available"] is health["redis_connected"] is True
    assert health["total_models"] == 1


def test_lost_redis_is_told_and_is_no_illness(settings: Settings) -> None:
    lost = settings.model_validate(settings.model_dump() | {"redis_url": "redis://127.0.0.1:1/0"})
    answer = create_app(lost).test_client().get("/health")
    assert (answer.status_code, answer.json["redis_connected"]) == (200, False)


def test_metrics_count_requests_by_route_not_by_path(http: FlaskClient, model_id: str) -> None:
    http.get(f"/api/v1/models/{model_id}")
    exposed = http.get("/metrics").text
    assert 'endpoint="/api/v1/models/<model_id>",method="GET",status="200"' in exposed
    assert model_id not in exposed


def test_invented_methods_make_no_new_series(http: FlaskClient) -> None:
    for number in range(5):
        http.open("/health", method=f"INVENTED{number}")
    exposed = http.get("/metrics").text
    assert "INVENTED" not in exposed
    assert 'method="other"' in exposed


def test_a_silent_redis_holds_nothing_up(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        mute = settings.model_validate(settings.model_dump() | {"redis_url": url})
        http = create_app(mute).test_client()
        assert http.get("/health").json["redis_connected"] is False
        model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
        http.post(f"/api/v1/models/{model_id}/upload", data=b"x")
        job = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"})
        assert job.status_code == 202


@contextmanager
def frozen(port: int, name: str) -> Iterator[None]:
    """The server that listens on a port holds still: it takes connections and answers nothing."""
    pids = [
        process.pid
        for process in psutil.process_iter(["name", "cmdline"])
        if name in (process.info["name"] or "") and str(port) in " ".join(process.info["cmdline"] or ())
    ]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_every_part_is_looked_at(http: FlaskClient, model_id: str, database: Database) -> None:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"x" * 1000)
    state = {"pid": 1, "sandbox": {"network": "isolated", "files": "isolated"}}
    Workers(database).report("worker-1", state)
    confined = {"network": "isolated", "files": "open: no", "system_calls": "isolated"}
    hosts = [{"group": "all", "pid": 2, "restarts": 0, "confined": confined}]
    InferenceServers(database).report("here:8085:0", {"model_hosts": hosts})
    answer = http.get("/health/detailed")
    health = answer.json
    assert set(health["checks"]) == {
        "mongodb",
        "gridfs",
        "disk_space",
        "model_registry",
        "redis",
        "workers",
        "cache",
    }
    assert (answer.status_code, health["issues"], health["status"]) == (200, [], "healthy")
    assert set(health["checks"].values()) == {"healthy"}
    assert health["service"] == "model-service"
    assert health["metrics"]["total_models"] == health["metrics"]["active_models"] == 1
    assert health["metrics"]["storage_usage_gb"] == round(1000 / 1024**3, 6)
    assert health["workers"][0]["sandbox"] == state["sandbox"]
    assert health["inference_servers"][0]["model_hosts"] == hosts


def test_what_is_amiss_is_told(http: FlaskClient, model_id: str, database: Database) -> None:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"x" * 1000)
    database.chunks.delete_many({})
    Maintenance(database).ended("verify", {"problems": 2})
    Maintenance(database).ended("sweep", {"removed": {}, "errors": {"blobs": "RuntimeError: no"}})
    answer = http.get("/health/detailed")
    health = answer.json
    assert (answer.status_code, health["status"]) == (200, "degraded")
    assert set(health["issues"]) == {"model_registry", "workers"}
    registry = health["checks"]["model_registry"]
    assert f"model {model_id}" in registry
    assert "verification" in registry
    assert "sweep of blobs" in registry
    assert health["last_verify"]["problems"] == 2


def test_a_full_disk_is_no_health(settings: Settings) -> None:
    full = settings.model_copy(update={"disk_warn_free": 1 << 60, "disk_min_free": 1 << 60})
    answer = create_app(full).test_client().get("/health/detailed")
    assert (answer.status_code, answer.json["status"]) == (503, "unhealthy")
    assert "GB free" in answer.json["checks"]["disk_space"]
    low = settings.model_copy(update={"disk_warn_free": 1 << 60, "disk_min_free": 1})
    answer = create_app(low).test_client().get("/health/detailed")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")


def test_lost_servers_are_told(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    health = app.test_client().get("/health/detailed")
    assert (health.status_code, health.json["status"]) == (200, "degraded")
    assert "redis" in health.json["issues"]


def test_a_hanging_mongodb_holds_no_probe_up(http: FlaskClient, servers: Addresses) -> None:
    http.get("/health/detailed")
    port = int(servers.mongodb_url.partition("127.0.0.1:")[2].partition("/")[0])
    with frozen(port, "mongod"):
        assert http.get("/health/live").json["status"] == "alive"
        for path in ("/health", "/health/ready", "/health/detailed"):
            began = time.monotonic()
            answer = http.get(path)
            assert answer.status_code == 503, path
            assert time.monotonic() - began < 5, path  # the connection itself would wait 15 s
        assert answer.json["checks"]["mongodb"] != "healthy"
        assert answer.json["issues"][0] == "mongodb"
        assert "model_service_models_total" not in http.get("/metrics").text
    deadline = time.monotonic() + 30
    while http.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline


def test_metrics_have_both_sets_of_names(
    http: FlaskClient, model_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_seen", set())  # other tests may have filled it
    http.post("/api/v1/models", json=new_model(algorithm="convnet", name="another"))
    http.post(f"/api/v1/models/{model_id}/upload", data=b"x" * 1000)
    http.get(f"/api/v1/models/{model_id}/download")
    exposed = http.get("/metrics").text
    values = samples(exposed)
    assert values["model_service_models_total"] == values["active_models_total"] == 2
    assert values["storage_usage_bytes"] == 1000
    for name in ("model_downloads_total", "model_service_downloads_total", "model_registrations_total"):
        assert values[f'{name}{{algorithm="convnet"}}'] >= 1, name
    for name in ("api_request_duration_seconds", "model_service_request_duration_seconds"):
        assert f'{name}_count{{endpoint="/api/v1/models",method="POST"}}' in values
    assert values['model_service_mongodb_operations_total{operation="insert"}'] >= 1
    assert model_id not in exposed


def test_waiting_and_running_jobs_have_ages(
    settings: Settings, http: FlaskClient, database: Database
) -> None:
    def gauges() -> dict[str, float]:
        return samples(create_app(settings).test_client().get("/metrics").text)  # not those of 5 s ago

    before = gauges()
    ages = ("model_service_queue_oldest_age_seconds", "model_service_running_oldest_age_seconds")
    counts = ("model_service_queue_jobs", "model_service_running_jobs", "model_service_queue_scans")
    assert [before[name] for name in (*ages, *counts)] == [0] * 5
    jobs = []
    for number in range(3):
        model_id = http.post("/api/v1/models", json=new_model(name=f"m{number}")).json["model_id"]
        http.post(f"/api/v1/models/{model_id}/upload", data=b"x")
        job = http.post("/api/v1/export/jobs", json={"model_id": model_id, "export_format": "onnx"})
        jobs.append(job.json["id"])
    hour_ago = now() - timedelta(hours=1)
    database.export_jobs.update_one({"_id": jobs[1]}, {"$set": {"created_at": hour_ago}})
    build_stores(database).exports.claim(jobs[2], worker="w", lease_s=60, max_attempts=3)
    database.export_jobs.update_one({"_id": jobs[2]}, {"$set": {"started_at": hour_ago - timedelta(hours=1)}})
    after = gauges()
    assert [after[name] for name in counts] == [2, 1, 3]
    assert [after[name] // 60 for name in ages] == [60, 120]


def test_waiting_and_running_evaluations_have_ages_and_waiting_inspections_are_counted(
    settings: Settings, http: FlaskClient, database: Database
) -> None:
    dataset_id, other_id = uploaded(http), uploaded(http, name="other")
    inspect(database, dataset_id)
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    http.post(f"/api/v1/models/{model_id}/upload", data=b"x")
    request = {"model_id": model_id, "dataset_id": dataset_id}
    jobs = [http.post("/api/v1/evaluations", json=request).json["id"] for _ in range(3)]
    hours_ago = [now() - timedelta(hours=hours) for hours in (1, 2)]
    database.evaluations.update_one({"_id": jobs[0]}, {"$set": {"created_at": hours_ago[0]}})
    assert build_stores(database).evaluations.claim(jobs[2], worker="w", lease_s=60, max_attempts=3)
    database.evaluations.update_one({"_id": jobs[2]}, {"$set": {"started_at": hours_ago[1]}})

    found = samples(create_app(settings).test_client().get("/metrics").text)
    assert other_id != dataset_id
    assert found["model_service_queue_inspections"] == 1
    assert found["model_service_queue_evaluations"] == 2
    assert found["model_service_running_evaluations"] == 1
    assert found["model_service_queue_oldest_evaluation_age_seconds"] // 60 == 60
    assert found["model_service_running_oldest_evaluation_age_seconds"] // 60 == 120
    assert found["model_service_queue_jobs"] == 0


def test_the_earliest_expiry_of_a_key_in_use_is_exposed(settings: Settings, database: Database) -> None:
    def expiry() -> float | None:
        text = create_app(settings).test_client().get("/metrics").text
        return samples(text).get("model_service_next_key_expiry_timestamp_seconds")

    def expires_in(days: int, *, used_days_ago: int) -> dict[str, Any]:
        used = now() - timedelta(days=used_days_ago)
        return {"expires_at": now() + timedelta(days=days), "last_used_at": used}

    assert expiry() is None
    unused, past = expires_in(1, used_days_ago=30), expires_in(-1, used_days_ago=1)
    database.access_keys.insert_many(
        [{"_id": name, "secrets": [{"prefix": name}], **key} for name, key in (("a", unused), ("b", past))]
    )
    assert expiry() is None
    key = {"_id": "c", "deployment_id": "d", **expires_in(20, used_days_ago=1)}
    database.api_keys.insert_many([key, {"_id": "r", **expires_in(2, used_days_ago=1), "rotated": True}])
    assert expiry() == pytest.approx(time.time() + 20 * 86_400, abs=60)
    database.access_keys.insert_one(
        {"_id": "e", "secrets": [{"prefix": "e"}], **expires_in(10, used_days_ago=1)}
    )
    assert expiry() == pytest.approx(time.time() + 10 * 86_400, abs=60)


def test_a_label_may_hold_an_end_of_line_of_unicode(http: FlaskClient) -> None:
    algorithm = "two\u2028lines\x85of\nothers"
    metrics.REGISTRATIONS.labels(algorithm=algorithm).inc()
    escaped = algorithm.replace("\n", "\\n")
    assert samples(http.get("/metrics").text)[f'model_registrations_total{{algorithm="{escaped}"}}'] >= 1


def test_what_users_call_their_algorithms_makes_a_bounded_number_of_series(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_seen", set())
    monkeypatch.setattr(metrics, "_MAX_LABEL_VALUES", 3)
    names = [f"invented-{n}" for n in range(8)]
    for name in names:
        model_id = http.post("/api/v1/models", json=new_model(algorithm=name)).json["model_id"]
        http.post(f"/api/v1/models/{model_id}/upload", data=b"x")
        assert http.get(f"/api/v1/models/{model_id}/download").status_code == 200
    exposed = http.get("/metrics").text
    for metric in ("model_registrations_total", "model_downloads_total"):
        labels = [name for name in [*names, "other"] if f'{metric}{{algorithm="{name}"}}' in exposed]
        assert labels == [*names[:3], "other"]


COUNTING = """
import os, sys, time
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from model_service import metrics
metrics.LOGINS.labels(outcome="ok").inc(int(sys.argv[2]))
metrics.INFERENCE_DURATION.observe(0.002)
print("counted", flush=True)
if sys.argv[3] == "stay":
    time.sleep(60)
print(metrics.exposition().decode())
"""


def test_what_killed_processes_counted_stays_and_their_files_go(tmp_path: Path) -> None:
    def counting(value: int, mode: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", COUNTING, str(tmp_path), str(value), mode]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    total = 0
    for round_number in range(1, 4):
        for value in (1, 10):
            with counting(value, "stay") as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "counted\n"
                process.kill()
            total += value
        with counting(100, "scrape") as process:
            exposed, _ = process.communicate(timeout=60)
        total += 100
        assert f'model_service_logins_total{{outcome="ok"}} {total:.1f}' in exposed
        assert f"model_service_inference_duration_seconds_count {3 * round_number:.1f}" in exposed
        # Those of all the dead are one of each kind; the scraping process has its own.
        assert len(list(tmp_path.glob("*.db"))) == 4


LOGGING = """
import logging, sys
import structlog
from model_service.app import create_app
from model_service.config import read_settings
from model_service.log import configure_logging
settings = read_settings()
configure_logging(settings)
http = create_app(settings).test_client()
http.post("/api/v1/models", json={"name": "digits", "algorithm": "convnet"}, headers={"X-Request-ID": "r-1"})
logging.getLogger("rq.worker").warning("from %s", "a library")
"""


def test_every_line_is_json_and_one_is_the_request(settings: Settings) -> None:
    env = environment(settings) | {"MONGODB_LOG_LEVEL": "DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", LOGGING], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (request,) = [line for line in lines if line["event"] == "api_request"]
    expected = {
        "method": "POST",
        "route": "/api/v1/models",
        "status": 201,
        "request_id": "r-1",
        "level": "info",
    }
    assert expected.items() <= request.items()
    assert request["user"]
    assert request["duration_ms"] > 0
    assert request["bytes"] > 0
    (library,) = [line for line in lines if line.get("logger") == "rq.worker"]
    assert library["event"] == "from a library"
    commands = [line["mongodb"]["commandName"] for line in lines if line["event"] == "Command started"]
    assert "insert" in commands
    assert logging.getLogger("pymongo").level != logging.DEBUG


def test_the_openapi_document_has_every_route(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/api/", "/health", "/metrics"))
    }
    assert documented == served


def test_the_document_says_that_a_password_has_no_nul(app: Flask) -> None:
    schemas = app.test_client().get("/openapi.json").json["components"]["schemas"]  # type: ignore[index]
    for field in ("password", "current_password"):
        pattern = schemas["PasswordChange"]["properties"][field]["pattern"]
        assert re.search(pattern, "correct horse")
        assert re.search(pattern, "correct\0horse") is None


def test_the_document_says_how_files_go_in_and_out(app: Flask) -> None:
    paths = app.test_client().get("/openapi.json").json["paths"]
    upload = paths["/api/v1/models/{model_id}/upload"]["post"]["requestBody"]["content"]
    assert set(upload) == {"application/octet-stream", "multipart/form-data"}
    for path in ("/api/v1/models/{model_id}/download", "/api/v1/export/jobs/{job_id}/download"):
        assert "application/octet-stream" in paths[path]["get"]["responses"]["200"]["content"]


def test_there_is_a_page_to_read_it(http: FlaskClient) -> None:
    page = http.get("/docs/scalar")
    assert page.status_code == 200
    assert "text/html" in page.content_type
