"""A command for programs: it confines itself, reads a request, and writes JSON lines to standard output.

The lines are ``ready`` (if the request comes from standard input), ``progress`` and ``step`` events, and at
the end ``completed`` with a result, or ``failed``; the exit code is 0 or 1. After a crash in native code
there is no last line.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from .errors import ExportError, UnsupportedOption, as_limit
from .request import trace_id
from .sandbox import landlock, limits

_NOT_REQUESTED = "open: not asked for"


class Events:
    """Writes JSON lines to the real standard output; the output of libraries goes to standard error."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        self.trace_id: str | None = None

    def emit(self, event: str, **fields: Any) -> None:
        trace = {"trace_id": self.trace_id} if self.trace_id else {}
        self._file.write(json.dumps({"event": event, **fields, **trace}) + "\n")
        self._file.flush()

    def progress(self, step: str, percent: float, message: str) -> None:
        self.emit("progress", step=step, percent=round(percent, 1), message=message)

    def step_ended(self, step: str, began_ns: int, seconds: float, failed: bool) -> None:
        self.emit("step", step=step, began_ns=began_ns, seconds=round(seconds, 6), failed=failed)


Work = Callable[[Any, Events], dict[str, Any]]
"""Handles the parsed JSON of a request and returns the result. Raises ExportError."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "request",
        metavar="REQUEST.json",
        help="a file, or - for a child process that is started in advance and reads one line",
    )
    parser.add_argument(
        "--isolate-network", action="store_true", help="disable the network before anything is read"
    )
    parser.add_argument(
        "--confine",
        type=Path,
        metavar="DIR",
        help="allow file access only to this folder and the interpreter's files",
    )
    for name in limits.NAMES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")


def run(arguments: argparse.Namespace, work: Work, warm_up: Callable[[], None] = lambda: None) -> int:
    """Run a command. ``warm_up`` is called before ``ready``, while no request is there."""
    network = limits.isolate_network() if arguments.isolate_network else _NOT_REQUESTED
    files = landlock.confine_to(arguments.confine) if arguments.confine else _NOT_REQUESTED
    limits.die_with_parent()
    events = Events()
    try:
        given = limits.check({name: getattr(arguments, name) for name in limits.NAMES})
        environment: dict[str, Any] = {"network": network, "files": files, "limits": limits.apply(given)}
        if arguments.request == "-":
            warm_up()
            events.emit("ready", environment=environment)
            text = sys.stdin.readline()
            if not text.strip():
                return 0
        else:
            text = Path(arguments.request).read_text(encoding="utf-8")
        request = _parse(text)
        if isinstance(request, Mapping):
            events.trace_id = trace_id(request.get("traceparent"))
            if not given:
                environment["limits"] = limits.apply(limits.check(request.get("limits")))
        result = work(request, events)
    except Exception as exc:
        return _fail(events, exc)
    events.emit("completed", result={**result, "environment": environment})
    return 0


def _fail(events: Events, exc: Exception) -> int:
    error = as_limit(exc) or exc
    # An error of this software: the log gets the traceback, the owner does not
    if not isinstance(error, ExportError):
        import traceback

        traceback.print_exception(exc)
        error = ExportError(
            "The command failed because of a bug in this software; the log has the traceback."
        )
    events.emit("failed", code=error.code, message=error.message, details=error.details)
    return 1


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as exc:
        raise UnsupportedOption(f"The request is not JSON: {exc}.", allowed=None) from exc


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
