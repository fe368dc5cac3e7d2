"""Following an export by its events, and doing something about it, from the client and the commands."""

import io
import json
import threading
import time
from typing import Any

import pytest

from model_service.client import (
    Conflict,
    ExportCancelled,
    InvalidRequest,
    ModelServiceClient,
    WaitTimedOut,
)
from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.finished import claim, complete, fail

from ..cli.test_cli import result, run
from ..scripted import Scripted, Step, answers, hangs_up


class Bar:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str | None]] = []

    def __call__(self, label: str, total: float, unit: Any) -> "Bar":
        return self

    def update(self, done: float, label: str | None = None) -> None:
        self.seen.append((done, label))

    def close(self) -> None:
        pass


def stream(*events: tuple[int, str, dict[str, Any]]) -> Step:
    text = "retry: 2000\n\n: still here\n\n" + "".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for number, name, data in events
    )
    return answers(200, text.encode(), Content_Type="text/event-stream")


def job(status: str, **fields: Any) -> Step:
    return answers(200, json.dumps({"id": "j1", "status": status, **fields}).encode())


def progress(number: int, percent: float, message: str) -> tuple[int, str, dict[str, Any]]:
    return number, "progress", {"progress_percent": percent, "progress_message": message}


ENDED = (9, "ended", {"status": "completed"})


def test_waiting_takes_two_requests_and_shows_every_step(script: Scripted) -> None:
    script.steps = [
        stream(progress(1, 5, "loading"), progress(2, 50, "converting"), ENDED),
        job("completed", progress_percent=100),
    ]
    bar = Bar()
    done = ModelServiceClient(script.url).wait_for_export("j1", progress=bar)
    assert done.status == "completed"
    assert [request.path for request in script.requests] == [
        "/api/v1/export/jobs/j1/events",
        "/api/v1/export/jobs/j1",
    ]
    assert bar.seen[:2] == [(5, "loading"), (50, "converting")]


def test_a_stream_that_breaks_off_is_taken_up_where_it_broke(script: Scripted) -> None:
    script.steps = [stream(progress(4, 5, "loading")), hangs_up, stream(ENDED), job("completed")]
    ModelServiceClient(script.url).wait_for_export("j1")
    asked = [request.headers.get("last-event-id") for request in script.requests]
    assert asked == [None, "4", "4", None]


@pytest.mark.parametrize(
    "refusal",
    [answers(404), answers(503, Retry_After="5"), job("running"), hangs_up, stream()],
    ids=["older service", "all streams taken", "no events", "broken again and again", "empty"],
)
def test_without_events_the_job_is_asked_for_again_and_again(script: Scripted, refusal: Step) -> None:
    def step(handler: Any, request: Any) -> None:
        if request.path.endswith("/events"):
            refusal(handler, request)
        else:
            asked.append(request)
            job("completed" if len(asked) > 2 else "running")(handler, request)

    asked: list[Any] = []
    script.steps = [step]
    began = time.monotonic()
    assert ModelServiceClient(script.url).wait_for_export("j1").status == "completed"
    assert len(asked) == 3
    assert time.monotonic() - began < 5


def test_waiting_for_events_ends_in_time(script: Scripted) -> None:
    def silent(handler: Any, request: Any) -> None:
        if request.path.endswith("/events"):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.flush()
            time.sleep(1.5)
            handler.close_connection = True
        else:
            job("running")(handler, request)

    script.steps = [silent]
    began = time.monotonic()
    with pytest.raises(WaitTimedOut):
        ModelServiceClient(script.url).wait_for_export("j1", timeout_s=0.5)
    assert time.monotonic() - began < 1.4


@pytest.fixture
def job_id(client: ModelServiceClient) -> str:
    model_id = client.register_model({"name": "digits", "algorithm": "cnn"})
    client.upload_model(model_id, io.BytesIO(b"some bytes"), filename="m.pt2")
    return client.create_export(model_id, reuse=False).id


def test_a_real_service_is_followed(
    client: ModelServiceClient, settings: Settings, database: Database, job_id: str
) -> None:
    token = claim(database, job_id)
    exports = build_stores(database).exports

    def work() -> None:
        for percent in (10, 60):
            exports.report(job_id, token, percent=percent, message=f"at {percent}", progress_step="convert")
            time.sleep(0.4)
        client.cancel_export(job_id)

    worker = threading.Thread(target=work)
    worker.start()
    bar = Bar()
    with pytest.raises(ExportCancelled):
        client.wait_for_export(job_id, progress=bar)
    worker.join()
    assert [percent for percent, _ in bar.seen if percent in (10, 60)] != []
    lines = [event.data["line"] for event in client.export_events(job_id) if event.name == "log"]
    assert [line[9:] for line in lines] == ["at 10", "at 60", "cancelled by anonymous"]
    assert list(client.export_events(job_id, after=str(len(lines) + 1))) == []


def test_the_calls_on_a_job(client: ModelServiceClient, database: Database, job_id: str) -> None:
    fail(database, job_id)
    with pytest.raises(Conflict):
        client.cancel_export(job_id)
    again = client.retry_export(job_id)
    assert (again.retry_of, again.status, again.version) == (job_id, "pending", 2)
    assert again.callback_token
    assert "callback_token" not in repr(again)
    complete(database, again.id)
    assert client.set_default_export(again.id).is_default
    assert [job.id for job in client.list_exports(is_default=True)] == [again.id]
    assert client.list_exports(export_format="openvino").total == 0
    found = client.export_capabilities("pytorch")["pytorch"]["onnx"]
    assert (found.supported, found.available) == (True, False)
    assert set(client.export_capabilities()) > {"timm", "sklearn"}
    with pytest.raises(InvalidRequest):
        client.export_capabilities("caffe")


def test_the_commands_on_a_job(service_url: str, database: Database, job_id: str) -> None:
    assert result("exports", "cancel", job_id, url=service_url)["status"] == "cancelled"
    shown = run("exports", "watch", job_id, url=service_url)
    assert (shown.returncode, "cancelled by anonymous" in shown.stdout) == (0, True)
    again = result("exports", "retry", job_id, url=service_url)["id"]
    complete(database, again)
    chosen = run("exports", "set-default", again, url=service_url)
    assert chosen.stdout == f"Export {again} is now the default of digits v1.0.\n"
    listed = result("exports", "list", "--default", "--format", "onnx", url=service_url)
    assert [job["id"] for job in listed["jobs"]] == [again]
    table = run("exports", "capabilities", "timm", url=service_url)
    assert "No worker is running" in table.stdout
    assert result("exports", "capabilities", "timm", url=service_url)["timm"]["onnx"]["native"] is True
    assert run("exports", "wait", job_id, url=service_url).returncode == 1
