"""Calls on export jobs."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from model_service.client.calls import Calls, wait
from model_service.client.errors import (
    ConnectionFailed,
    ExportCancelled,
    ExportFailed,
    ServiceError,
    UnexpectedAnswer,
)
from model_service.client.records import Page
from model_service.client.transport.events import Event, parse
from model_service.client.transport.http import segment
from model_service.client.transport.progress import Bar, MakeBar
from model_service.client.transport.retries import backoff_s
from model_service.client.transport.transfer import download
from model_service.client.types import ExportJob, FormatCapability
from model_service.states import ExportStatus

JOBS = "/api/v1/export/jobs"
CAPABILITIES = "/api/v1/export/capabilities"
EVENTS = "text/event-stream"
# After this many in a row, the job is polled instead.
_BROKEN_STREAMS = 3
# A stream without data for so long is broken: the service sends something every five seconds.
_SILENCE_S = 20.0


class ExportCalls(Calls):
    def create_export(
        self, model_id: str | None = None, export_format: str = "onnx", **options: Any
    ) -> ExportJob:
        """Create an export job. It may be completed already, if an equal export was reused.

        Options: export_config, optimization_config, validation_config, version_tag; ``reuse=False`` to
        convert in any case; ``training_job_id`` instead of the model selects the newest model of that
        training job.

        Raises:
            InvalidRequest: an option that the format does not have; ``details["allowed"]`` lists the valid
                ones.
            TooManyRequests: your tier allows no more now; ``details`` has the limit.
        """
        data = {"model_id": model_id, "export_format": export_format, **options}
        return ExportJob.from_json(self._transport.create(JOBS, data))

    def get_export(self, job_id: str) -> ExportJob:
        return ExportJob.from_json(self._transport.json("GET", f"{JOBS}/{segment(job_id)}"))

    def list_exports(
        self,
        *,
        model_id: str | None = None,
        status: str | None = None,
        page: int | None = None,
        limit: int | None = None,
        **filters: Any,
    ) -> Page[ExportJob]:
        """Return one page of export jobs, newest first.

        Args:
            page: from 1.
            filters: training_job_id, export_format, version_tag, is_default, user_id, trace_id.
        """
        query = {"model_id": model_id, "status": status, "page": page, "limit": limit, **filters}
        return self._page(JOBS, "jobs", ExportJob, query)

    def cancel_export(self, job_id: str) -> ExportJob:
        """Cancel a waiting or running job; a cancelled one is not changed.

        Raises:
            Conflict: it is completed or failed.
        """
        return ExportJob.from_json(self._transport.json("POST", f"{JOBS}/{segment(job_id)}/cancel"))

    def retry_export(self, job_id: str) -> ExportJob:
        """Create a new job for one that failed or was cancelled.

        Raises:
            Conflict: it is active or completed, or its source file no longer exists.
        """
        return ExportJob.from_json(self._transport.create(f"{JOBS}/{segment(job_id)}/retry", None))

    def set_default_export(self, job_id: str) -> ExportJob:
        """Make it the default export of its model's version, instead of the present one. Raises Conflict."""
        return ExportJob.from_json(self._transport.json("POST", f"{JOBS}/{segment(job_id)}/set-default"))

    def export_capabilities(self, framework: str | None = None) -> dict[str, dict[str, FormatCapability]]:
        """Return framework → format → capability. Raises InvalidRequest for an unknown framework."""
        answer = self._transport.json("GET", CAPABILITIES, query={"framework": framework})
        found = [answer] if framework is not None else answer["frameworks"]
        return {
            entry["framework"]: {
                name: FormatCapability.from_json(each) for name, each in entry["formats"].items()
            }
            for entry in found
        }

    def export_events(self, job_id: str, *, after: str | None = None) -> Iterator[Event]:
        """Iterate over a job's events until it ends: lines of its log, its progress, its end.

        Args:
            after: the id of the last event that is known already.

        Raises:
            NotFound, ServiceUnavailable.
            ConnectionFailed: the stream broke; continue ``after`` the last event.
        """
        yield from (event for event in self._stream(job_id, after) if event is not None)

    def _stream(
        self, job_id: str, after: str | None, silence_s: float = _SILENCE_S
    ) -> Iterator[Event | None]:
        headers = {"Accept": EVENTS} | ({} if after is None else {"Last-Event-ID": after})
        url = f"{JOBS}/{segment(job_id)}/events"
        response = self._transport.send(
            "GET", url, headers=headers, stream=True, timeout_s=silence_s, attempts=1
        )
        try:
            if response.status == 204:  # ``after`` is the event of its end
                return
            if not response.headers.get("Content-Type", "").startswith(EVENTS):
                raise UnexpectedAnswer("The service has no events for this export.")
            yield from parse(response)
        except HTTPError as exc:
            raise ConnectionFailed(
                f"The connection that sends the events of export {job_id} broke: {exc}."
            ) from exc
        finally:
            response.close()

    def _follow(self, job_id: str, bar: Bar, deadline: float) -> None:
        """Show the progress until the job ends, the time is over, or no events are available."""
        last, failures = None, 0
        while failures < _BROKEN_STREAMS and (left_s := deadline - time.monotonic()) > 0:
            failures += 1
            try:
                for event in self._stream(job_id, last, min(_SILENCE_S, left_s)):
                    if event is not None:
                        failures, last = 0, event.id
                        _show(event, bar)
                    if (event is not None and event.name == "ended") or time.monotonic() >= deadline:
                        return
            except ConnectionFailed:
                time.sleep(min(backoff_s(failures + 1), max(0.0, deadline - time.monotonic())))
            except (ServiceError, UnexpectedAnswer):
                return

    def wait_for_export(
        self, job: str | ExportJob, *, timeout_s: float = 1800, progress: bool | MakeBar | None = None
    ) -> ExportJob:
        """Wait for the job, and return it when it is completed.

        Raises:
            ExportFailed: with the job, its ``error_code`` as ``code``, and its log in ``job.log``.
            ExportCancelled: the job was cancelled.
            WaitTimedOut: not completed within ``timeout_s``; the job continues.
        """
        job_id = job if isinstance(job, str) else job.id
        deadline = time.monotonic() + timeout_s
        with closing(self._bar_for(progress)("Exporting", 100, "percent")) as bar:
            self._follow(job_id, bar, deadline)

            def ended(seen: ExportJob) -> bool:
                bar.update(seen.progress_percent, seen.progress_message or seen.status)
                return seen.ended

            done = wait(lambda: self.get_export(job_id), ended, timeout_s, deadline)
        if done.status == ExportStatus.CANCELLED:
            raise ExportCancelled(done, f"Export {done.id} was cancelled.", "cancelled")
        if done.status == ExportStatus.FAILED:
            reason = done.error_message or "the service gave no reason."
            raise ExportFailed(done, f"Export {done.id} failed: {reason}", done.error_code or "export_failed")
        return done

    def download_export(
        self, job_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Download the package, a zip; otherwise like ``download_model``."""
        url = f"{JOBS}/{segment(job_id)}/download"
        return download(self._transport, url, output_path, self._bar_for(progress))


def _show(event: Event, bar: Bar) -> None:
    if event.name == "progress":
        message = event.data.get("progress_message") or event.data.get("status")
        bar.update(event.data.get("progress_percent", 0), message)
