"""Requests at a steady rate, whatever becomes of the answers, and every answer judged.

The load is open: a request is sent when it is due, by one of many callers that each keep a connection.
"""

import http.client
import itertools
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from serving_models import Exported, Question

CALLERS = 32
TIMEOUT_S = 15.0
WRONG = "wrong answer"
NOT_CONNECTED = "not connected"
CUT_OFF = "cut off"


@dataclass(frozen=True)
class Asked:
    """One request; times of ``time.monotonic()``. ``outcome``: whose answer it was, or what went wrong."""

    sent: float
    done: float
    outcome: str


@dataclass
class Steady:
    """What has been asked so far."""

    models: Sequence[str]
    asked: list[Asked] = field(default_factory=list, repr=False)

    def failed(self) -> Counter[str]:
        return Counter(each.outcome for each in self.asked if each.outcome not in self.models)

    def latencies_ms(self) -> Sequence[float]:
        return [(each.done - each.sent) * 1000 for each in self.asked if each.outcome in self.models]

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms(), percent))


@contextmanager
def steady(question: Question, models: Mapping[str, Exported], *, per_second: float) -> Iterator[Steady]:
    """Asks ``question`` while the block runs; an answer must be that of one of ``models``."""
    load = Steady(list(models))
    stop = threading.Event()
    turn, numbers = threading.Lock(), itertools.count()
    started = time.monotonic() + 0.05

    def call() -> None:
        caller = _Caller(question, models)
        while not stop.is_set():
            with turn:
                due = started + next(numbers) / per_second
            time.sleep(max(0.0, due - time.monotonic()))
            if not stop.is_set():
                load.asked.append(caller.ask())
        caller.close()

    threads = [threading.Thread(target=call, daemon=True) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Caller:
    """One connection, opened again when the server has closed it: before a request, as HTTP clients do."""

    def __init__(self, question: Question, models: Mapping[str, Exported]) -> None:
        self._question = question
        self._models = models
        parts = urlsplit(question.url)
        assert parts.hostname is not None
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._connection.close()

    def ask(self) -> Asked:
        sent = time.monotonic()
        outcome = self._ask()
        return Asked(sent, time.monotonic(), outcome)

    def _ask(self) -> str:
        sock: socket.socket | None = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError as exc:
            return f"{NOT_CONNECTED}: {type(exc).__name__}"
        question = self._question
        try:
            self._connection.request("POST", self._path, question.body, dict(question.headers))
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            return f"{CUT_OFF}: {type(exc).__name__}"
        if answer.status != 200:
            return f"{answer.status} {body[:120].decode(errors='replace')}"
        found = question.read(body, {name.lower(): value for name, value in answer.getheaders()})
        names = (name for name, model in self._models.items() if model.is_answered_by(found))
        return next(names, WRONG)
