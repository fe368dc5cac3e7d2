"""What happens to a job, as server-sent events."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.api.http.context import EXTENSION
from model_service.services.exports import events as export_events
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.finished import claim, complete, fail

URL = "/api/v1/export/jobs"


@pytest.fixture
def job_id(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    body: Any = http.post(URL, json={"model_id": model_id, "export_format": "onnx"}).json
    return str(body["id"])


def events(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block.startswith("id: ")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def names(text: str) -> list[tuple[int, str]]:
    return [(int(event["id"]), event["event"]) for event in events(text)]


def test_a_job_that_has_ended_is_told_whole(http: FlaskClient, database: Database, job_id: str) -> None:
    fail(database, job_id)
    answer = http.get(f"{URL}/{job_id}/events")
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert names(answer.text) == [(1, "log"), (1, "progress"), (2, "ended")]
    assert '"error_code":"conversion_failed"' in events(answer.text)[-1]["data"]


def test_a_job_is_followed_to_its_end(app: Flask, http: FlaskClient, database: Database, job_id: str) -> None:
    token = claim(database, job_id)
    exports = build_stores(database).exports
    seen: list[bytes] = []

    def read() -> None:
        with app.test_client() as client:
            answer: Any = client.get(f"{URL}/{job_id}/events", buffered=False)
            seen.extend(answer.response)

    reader = threading.Thread(target=read)
    reader.start()
    exports.report(job_id, token, percent=40, message="converting", progress_step="convert")
    deadline = time.monotonic() + 20
    while b"converting" not in b"".join(seen):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert b"ended" not in b"".join(seen)
    http.post(f"{URL}/{job_id}/cancel")
    reader.join(20)
    found = events(b"".join(seen).decode())
    assert [event["event"] for event in found][-1] == "ended"
    assert '"status":"cancelled"' in found[-1]["data"]
    assert [event["id"] for event in found if event["event"] == "log"] == ["1", "2"]


def test_who_comes_back_is_told_the_rest(http: FlaskClient, database: Database, job_id: str) -> None:
    token = claim(database, job_id)
    for number in range(3):
        build_stores(database).exports.report(job_id, token, percent=number, message=f"step {number}")
    http.post(f"{URL}/{job_id}/cancel")

    def after(last: str) -> Any:
        return http.get(f"{URL}/{job_id}/events", headers={"Last-Event-ID": last})

    assert names(after("2").text) == [(3, "log"), (4, "log"), (4, "progress"), (5, "ended")]
    assert names(after("4").text) == [(4, "progress"), (5, "ended")]
    assert after("5").status_code == 204  # a browser's EventSource stops at that
    assert len(names(after("nonsense").text)) == 6


def test_a_log_that_lost_its_beginning_goes_on_where_it_can(
    http: FlaskClient, database: Database, job_id: str
) -> None:
    token = claim(database, job_id)
    for number in range(205):
        build_stores(database).exports.report(job_id, token, percent=1, message=f"step {number}")
    http.post(f"{URL}/{job_id}/cancel")
    found = names(http.get(f"{URL}/{job_id}/events", headers={"Last-Event-ID": "2"}).text)
    assert found[0] == (7, "log")
    assert found[-1] == (207, "ended")


def test_a_quiet_job_is_heard_and_a_long_stream_ends(
    http: FlaskClient, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_events, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(export_events, "LONGEST_S", 1.0)
    text = http.get(f"{URL}/{job_id}/events").text
    assert ": still here" in text
    assert names(text) == [(0, "progress")]


def test_streams_are_few_and_their_places_come_back(
    app: Flask, http: FlaskClient, database: Database, job_id: str
) -> None:
    clients = [app.test_client() for _ in range(app.extensions[EXTENSION].settings.api_threads // 4)]
    answers: list[Any] = [client.get(f"{URL}/{job_id}/events", buffered=False) for client in clients]
    streams: list[Iterator[bytes]] = [iter(answer.response) for answer in answers]
    assert [next(stream) for stream in streams] == [b"retry: 2000\n\n"] * len(streams)
    refused = http.get(f"{URL}/{job_id}/events")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert http.get(f"{URL}/{job_id}").status_code == 200
    for answer in answers:
        answer.close()
    complete(database, job_id)
    assert http.get(f"{URL}/{job_id}/events").status_code == 200


def test_there_are_no_events_of_what_is_not_there(http: FlaskClient) -> None:
    assert http.get(f"{URL}/00000000-0000-4000-8000-000000000000/events").status_code == 404
