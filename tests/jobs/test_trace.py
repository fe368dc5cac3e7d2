"""The log lines and the trace of a job."""

import math
import time
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from model_service import tracing
from model_service.jobs import trace
from model_service.jobs.context import Context
from model_service.jobs.scan import scan
from model_service.services import Services
from model_service.tracing.context import CURRENT, parse
from tests.jobs.test_scan import uploaded

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
WITH_IDS = [structlog.contextvars.merge_contextvars]


def test_a_scan_has_the_trace_of_the_upload_in_its_lines(context: Context, services: Services) -> None:
    before, present = structlog.contextvars.get_contextvars(), tracing.current()
    token = CURRENT.set(parse(CALLER))
    try:
        model_id = uploaded(services, b"not a model")
    finally:
        CURRENT.reset(token)
    with capture_logs(processors=WITH_IDS) as lines:
        scan(model_id)
    (line,) = [line for line in lines if line["event"] == "scan.done"]
    assert (line["trace_id"], line["model_id"]) == (TRACE, model_id)
    assert structlog.contextvars.get_contextvars() == before
    assert tracing.current() == present


def test_a_job_without_a_valid_trace_begins_one() -> None:
    ids = []
    for traceparent in (None, "00-broken"):
        with trace.continued("export", traceparent, job_id="j-1"), capture_logs(WITH_IDS) as lines:
            structlog.get_logger().info("done")
        ids.append(lines[0]["trace_id"])
        assert lines[0]["job_id"] == "j-1"
    assert len(set(ids)) == 2


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    "event",
    [
        {"step": "load", "began_ns": time.time_ns() - 3600 * SECOND, "seconds": 7200.0, "failed": False},
        {"step": "load", "began_ns": time.time_ns() + 3600 * SECOND, "seconds": 1.0, "failed": 1},
        {"step": "verify", "began_ns": 1 << 80, "seconds": math.inf},
        {"step": "load", "began_ns": -1, "seconds": math.nan, "trace_id": "another"},
        {"step": "load", "began_ns": 0, "seconds": -5.0, "converter_pid": 1},
    ],
)
def test_a_converter_cannot_forge_times_or_ids(
    monkeypatch: pytest.MonkeyPatch, event: dict[str, Any]
) -> None:
    recorded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tracing, "record", lambda *given, **named: recorded.append(given))
    since = time.time_ns()
    with trace.continued("export", CALLER, job_id="j-1"), capture_logs(WITH_IDS) as lines:
        trace.step_recorder(4711)(event)
    ((name, parent, began_ns, seconds, attributes),) = recorded
    assert name == event["step"]
    assert parent.trace_id == TRACE
    assert since <= began_ns <= began_ns + round(seconds * SECOND) <= time.time_ns()
    assert attributes == {"process.pid": 4711}
    (line,) = lines
    assert (line["trace_id"], line["converter_pid"], line["failed"]) == (TRACE, 4711, False)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"step": 1, "began_ns": 1, "seconds": 1.0},
        {"step": "load", "seconds": 1.0},
        {"step": "load", "began_ns": 1, "seconds": 10**400},
        {"step": "\ud800", "began_ns": 1, "seconds": 1.0},
        {"step": ["load"], "began_ns": 1, "seconds": 1.0},
    ],
)
def test_a_malformed_step_is_ignored(event: dict[str, Any]) -> None:
    with capture_logs() as lines:
        trace.step_recorder(4711)(event)
    assert lines == []


def test_a_converter_cannot_fill_the_log() -> None:
    record = trace.step_recorder(4711)
    with capture_logs() as lines:
        for _ in range(1000):
            record({"step": "load", "began_ns": 1, "seconds": 1.0})
    assert len(lines) == 100
