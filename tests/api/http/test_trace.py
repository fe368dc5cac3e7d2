"""The trace of a request: in its log line, and in the job that it creates."""

import uuid
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from model_service import tracing
from model_service.storage.common.db import Database

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
URL = "/api/v1/export/jobs"


def lines_of(http: FlaskClient, method: str, url: str, **request: Any) -> tuple[Any, dict[str, Any]]:
    """The response, and its log line."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = http.open(url, method=method, **request)
    (line,) = [line for line in lines if line["event"] == "api_request"]
    return answer, line


def export(
    http: FlaskClient, model_id: str, headers: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    body = {"model_id": model_id, "export_format": "onnx", "reuse": False}
    answer, line = lines_of(http, "POST", URL, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json, line


def test_a_job_continues_the_trace_of_its_request(
    http: FlaskClient, database: Database, model_id: str
) -> None:
    caller = f"00-{TRACE}-{PARENT}-01"
    job, line = export(http, model_id, {"traceparent": caller, "X-Request-ID": "r-1"})
    assert (line["trace_id"], line["request_id"]) == (TRACE, "r-1")
    assert job["trace_id"] == str(uuid.UUID(TRACE))
    assert "traceparent" not in job
    stored = database.export_jobs.find_one({"_id": job["id"]})
    assert stored is not None
    assert stored["traceparent"] == caller
    found: Any = http.get(f"{URL}?trace_id={job['trace_id']}").json
    assert [each["id"] for each in found["jobs"]] == [job["id"]]
    scan = database.scans.find_one({})
    assert scan is not None
    assert tracing.parse(scan["traceparent"]) is not None


def test_a_retry_continues_the_trace_of_its_own_request_and_keeps_the_id_of_the_first(
    http: FlaskClient, database: Database, model_id: str
) -> None:
    first, _ = export(http, model_id, {})
    http.post(f"{URL}/{first['id']}/cancel")
    caller = f"00-{TRACE}-{PARENT}-01"
    again: Any = http.post(f"{URL}/{first['id']}/retry", headers={"traceparent": caller}).json
    stored = database.export_jobs.find_one({"_id": again["id"]})
    assert stored is not None
    assert (stored["traceparent"], stored["trace_id"]) == (caller, first["trace_id"])


@pytest.mark.parametrize("header", [None, f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01-x", "ff", "é"])
def test_without_a_valid_header_each_request_begins_a_trace(http: FlaskClient, header: str | None) -> None:
    headers = {} if header is None else {"traceparent": header}
    ids = [lines_of(http, "GET", "/api/v1/models", headers=headers)[1]["trace_id"] for _ in range(2)]
    assert len({*ids, TRACE}) == 3
    assert all(tracing.parse(f"00-{each}-{PARENT}-01") for each in ids)
