"""What happens to an export job, as it happens: its log, its progress, its end."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from model_service.services.exports.exports import ExportService
from model_service.states import ExportStatus
from model_service.storage.common.db import Document
from model_service.storage.exports.exports import Exports

# How often MongoDB is asked for each stream: while something happens, and while nothing does.
_BUSY_S, _QUIET_S = 0.2, 1.0
# Something is sent at least this often, which finds clients that are gone.
HEARTBEAT_S = 5.0
# A stream keeps a thread. A client that still listens after this long connects again by itself.
LONGEST_S = 600.0


@dataclass(frozen=True)
class Event:
    """``id``: how many lines the log had, and one more for the end; a listener that comes back names it."""

    id: int
    name: str
    data: Document


class ExportEvents:
    def __init__(self, exports: Exports, service: ExportService) -> None:
        self._exports = exports
        self._service = service

    def follow(self, job_id: str, after: int = 0) -> Iterator[Event | None] | None:
        """The events after that one, until the job ends; None in between where nothing happened for a while.

        No iterator at all when the end was told with ``after``.

        Raises:
            MalformedId, NotFound.
        """
        job = self._service.get(job_id)
        if ExportStatus(job["status"]).final and after > job.get("log_count", 0):
            return None
        return self._follow(job["_id"], after)

    def _follow(self, job_id: str, after: int) -> Iterator[Event | None]:
        until = time.monotonic() + LONGEST_S
        seen, shown, said, pause_s = after, None, time.monotonic(), _BUSY_S
        while (job := self._exports.progress(job_id)) is not None:
            count = job.get("log_count", 0)
            events = [Event(number, "log", {"line": line}) for number, line in _lines(job, seen)]
            if shown != (shown := _progress(job)):
                events.append(Event(count, "progress", shown))
            ended = ExportStatus(job["status"]).final
            if ended:
                events.append(Event(count + 1, "ended", shown))
            yield from events
            if ended or time.monotonic() > until:
                return
            seen = max(seen, count) if events else seen
            pause_s = _BUSY_S if events else min(pause_s * 1.5, _QUIET_S)
            if events:
                said = time.monotonic()
            elif time.monotonic() - said > HEARTBEAT_S:
                yield None
                said = time.monotonic()
            time.sleep(pause_s)


def _lines(job: Document, seen: int) -> Iterator[tuple[int, str]]:
    """The lines of the log after ``seen`` with their numbers, as far as they are kept."""
    first = job.get("log_count", 0) - len(job["log"]) + 1
    yield from ((number, line) for number, line in enumerate(job["log"], first) if number > seen)


def _progress(job: Document) -> Document:
    fields = ("status", "progress_percent", "progress_step", "progress_message")
    return {field: job.get(field) for field in (*fields, "error_code", "error_message")}
