"""Calls on export jobs."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.errors import ExportCancelled, ExportFailed
from model_service.client.http import segment
from model_service.client.progress import MakeBar
from model_service.client.records import Page
from model_service.client.transfer import download
from model_service.client.types import ExportJob
from model_service.states import ExportStatus

JOBS = "/api/v1/export/jobs"


class ExportCalls(Calls):
    def create_export(
        self, model_id: str | None = None, export_format: str = "onnx", **options: Any
    ) -> ExportJob:
        """The job, not yet done. Options: export_config, optimization_config, validation_config, version_tag;
        ``training_job_id`` in place of the model takes the newest one that came from that run.

        Raises:
            InvalidRequest: an option the format does not offer; ``details["allowed"]`` lists what it does.
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
    ) -> Page[ExportJob]:
        query = {"model_id": model_id, "status": status, "page": page, "limit": limit}
        return self._page(JOBS, "jobs", ExportJob, query)

    def wait_for_export(
        self, job: str | ExportJob, *, timeout_s: float = 1800, progress: bool | MakeBar | None = None
    ) -> ExportJob:
        """The job, completed.

        Raises:
            ExportFailed: with the job, its ``error_code`` as ``code``, and its log in ``job.log``.
            ExportCancelled: somebody cancelled it.
            WaitTimedOut: not done in ``timeout_s``; the job goes on.
        """
        job_id = job if isinstance(job, str) else job.id
        with closing(self._bar_for(progress)("Exporting", 100, "percent")) as bar:

            def ended(seen: ExportJob) -> bool:
                bar.update(seen.progress_percent, seen.progress_message or seen.status)
                return seen.ended

            done = wait(lambda: self.get_export(job_id), ended, timeout_s)
        if done.status == ExportStatus.CANCELLED:
            raise ExportCancelled(done, f"Export {done.id} was cancelled.", "cancelled")
        if done.status == ExportStatus.FAILED:
            reason = done.error_message or "the service gave no reason."
            raise ExportFailed(done, f"Export {done.id} failed: {reason}", done.error_code or "export_failed")
        return done

    def download_export(
        self, job_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Fetches the package, a zip; otherwise as ``download_model``."""
        url = f"{JOBS}/{segment(job_id)}/download"
        return download(self._transport, url, output_path, self._bar_for(progress))
