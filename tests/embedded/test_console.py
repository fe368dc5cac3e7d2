"""The logs of `up`: text for a person, JSON for a program."""

import json
import os
import pty
import time
from collections.abc import Sequence

import pytest

from model_service.embedded.console import Console, human
from model_service.embedded.mongo import readable

TIME = "2026-11-29T12:30:00.000+00:00"
REQUEST = json.dumps({"route": "/a b", "status": 200, "event": "request", "level": "info", "timestamp": TIME})
FAILURE = json.dumps(
    {"event": "failed", "level": "error", "exception": "Traceback:\n  oh", "timestamp": TIME}
)
MONGOD = json.dumps({"t": {"$date": TIME}, "s": "E", "c": "NETWORK", "msg": "Error", "attr": {"port": 1}})


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.delenv("NO_COLOR", raising=False)


def written(fd: int, reader: int, name: str, lines: Sequence[str], *, as_text: bool) -> str:
    Console(fd, ["api", "mongod"], as_text=as_text).write(name, lines)
    return os.read(reader, 65536).decode()


def test_a_person_reads_text() -> None:
    reader, writer = os.pipe()
    text = written(writer, reader, "api", [REQUEST, FAILURE, "plain {words}"], as_text=True)
    assert text == (
        'api    | 12:30:00 request route="/a b" status=200\n'
        "api    | 12:30:00 ERROR failed\n"
        "api    | Traceback:\n"
        "api    |   oh\n"
        "api    | plain {words}\n"
    )


def test_errors_are_red_on_a_terminal() -> None:
    reader, writer = pty.openpty()
    text = written(writer, reader, "api", [FAILURE], as_text=True)
    assert "\x1b[36mapi    | \x1b[0m\x1b[31m12:30:00 ERROR failed" in text


def test_a_program_reads_json() -> None:
    reader, writer = os.pipe()
    mongod = readable(MONGOD)
    assert mongod is not None
    lines = written(writer, reader, "mongod", [REQUEST, mongod, "plain \x1b[31m words"], as_text=False)
    request, error, plain = map(json.loads, lines.splitlines())
    assert request == {"process": "mongod", **json.loads(REQUEST)}
    assert error == {
        "process": "mongod",
        "event": "Error",
        "level": "error",
        "timestamp": TIME,
        "attr": {"port": 1},
    }
    assert (plain["process"], plain["event"], plain["level"]) == ("mongod", "plain \x1b[31m words", "info")


def test_fields_cannot_send_commands_to_the_terminal() -> None:
    assert human(json.dumps({"event": "request", "path": "\x1b]0;owned\x07\n"})) == "request path=]0;owned"
