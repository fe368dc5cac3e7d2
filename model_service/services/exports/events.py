"""Live events of an export job: log lines, progress, end."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from model_service.services.exports.exports import ExportService
from model_service.states import ExportStatus
from model_service.storage.common.documents import Fields
from model_service.storage.exports.documents import ExportJob
from model_service.storage.exports.exports import Exports

# Interval between two MongoDB queries of a stream, while events arrive and while there are none.
_BUSY_S, _QUIET_S = 0.2, 1.0
# Maximum time between two messages of a stream. Sending detects clients that have disconnected.
HEARTBEAT_S = 5.0
# A stream occupies a thread. A client that still listens after this time reconnects by itself.
LONGEST_S = 600.0


@dataclass(frozen=True)
class Event:
    """``id``: the number of log lines so far, plus one for the end. A client that reconnects sends it."""

    id: int
    name: str
    data: Fields


class ExportEvents:
    def __init__(self, exports: Exports, service: ExportService) -> None:
        self._exports = exports
        self._service = service

    def follow(self, job_id: str, after: int = 0) -> Iterator[Event | None] | None:
        """Iterate over the events after number ``after`` until the job ends; yields None as a heartbeat.

        Returns None instead of an iterator if ``after`` already includes the end.

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


def _lines(job: ExportJob, seen: int) -> Iterator[tuple[int, str]]:
    """Return the log lines after number ``seen`` with their numbers, as far as they are kept."""
    first = job.get("log_count", 0) - len(job["log"]) + 1
    yield from ((number, line) for number, line in enumerate(job["log"], first) if number > seen)


def _progress(job: Fields) -> Fields:
    fields = ("status", "progress_percent", "progress_step", "progress_message")
    return {field: job.get(field) for field in (*fields, "error_code", "error_message")}
