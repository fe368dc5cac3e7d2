"""Changes of an existing export job: cancel it, make it the default export of its source."""

from model_service.actor import Permission, actor, require
from model_service.errors import Conflict
from model_service.services.exports.exports import ExportService
from model_service.states import ExportStatus
from model_service.storage.common.db import Session
from model_service.storage.common.documents import blobs_of
from model_service.storage.exports.documents import ExportJob
from model_service.storage.exports.exports import DefaultTaken
from model_service.storage.stores import Stores

# Each retry means that another caller was faster. So many conflicts in a row do not occur in practice.
_TRIES = 10


class ExportChanges:
    def __init__(self, stores: Stores, service: ExportService) -> None:
        self._database = stores.database
        self._exports = stores.exports
        self._blobs = stores.blobs
        self._audit = stores.audit
        self._service = service

    def cancel(self, job_id: str) -> ExportJob:
        """Cancel a pending or running job. Its worker kills the conversion within about a second.

        A job that is already cancelled is returned unchanged.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the job was completed or has failed.
        """
        job = self._writable(job_id)

        def work(session: Session) -> ExportJob | None:
            cancelled = self._exports.cancel(job["_id"], actor().name, session)
            if cancelled is not None:
                self._blobs.release_all(blobs_of(cancelled), session)
                self._record("cancelled", cancelled, session)
            return cancelled

        after = self._database.transaction(work) or self._service.get(job_id)
        if after["status"] != ExportStatus.CANCELLED:
            raise Conflict(
                f"Export job {job_id} is already {after['status']} and cannot be cancelled.",
                status=after["status"],
            )
        return after

    def set_default(self, job_id: str) -> ExportJob:
        """Make the job the default export of its model version, in place of the previous default.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the job is not completed.
        """
        job = self._writable(job_id)

        def work(session: Session) -> None:
            if not self._exports.set_default(job, session):
                raise Conflict(
                    f"Export job {job_id} is {job['status']}: only a completed one can become the default.",
                    status=job["status"],
                )
            self._record("set_default", job, session)

        for tried in range(_TRIES):
            try:
                self._database.transaction(work)
                break
            except DefaultTaken:
                if tried == _TRIES - 1:
                    raise
        return self._service.get(job_id)

    def _writable(self, job_id: str) -> ExportJob:
        job = self._service.get(job_id)
        require(Permission.WRITE, job["model_name"])
        return job

    def _record(self, action: str, job: ExportJob, session: Session) -> None:
        details = {"format": job["export_format"], "version": job["version"]}
        self._audit.record(
            action, "export_job", job["_id"], session=session, name=job["model_name"], details=details
        )
