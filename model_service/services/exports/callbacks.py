"""Callbacks of a conversion that runs outside the service. Only the job's token authenticates them.

Callbacks can be repeated safely. The caller holds the job like a worker does, with a lease that each callback
renews, so no other worker runs the job at the same time. Once the job has ended, its token is used up: only
the callback that ended it may be repeated.
"""

import hashlib
import hmac
from collections.abc import Iterator

from exporters.base import NOT_EXECUTED
from model_service.errors import Conflict, FileTooLarge, IncompleteUpload, InvalidField, Unauthorized
from model_service.services.common.ids import parse_uuid
from model_service.services.files.files import require_announced
from model_service.states import ExportStatus
from model_service.storage.blobs.blobs import Blob, SizeLimitExceeded, blob_of
from model_service.storage.blobs.descriptions import of_package
from model_service.storage.common.db import Session
from model_service.storage.common.documents import blobs_of
from model_service.storage.exports.documents import CallbackOutcome, ExportJob, Fidelity
from model_service.storage.stores import Stores

WORKER = "callback"
_ZIP = b"PK\x03\x04"
_FIDELITY: Fidelity = {
    "verdict": NOT_EXECUTED,
    "reason": "The package was built elsewhere. This service has not compared it with its source.",
    "outputs": {},
    "cases": [],
}


class ExportCallbacks:
    """Callbacks for export jobs. After ``lease_s`` without a callback, a worker may take the job over."""

    def __init__(self, stores: Stores, *, lease_s: float, max_attempts: int, max_package_bytes: int) -> None:
        self._database = stores.database
        self._exports = stores.exports
        self._blobs = stores.blobs
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._max_package_bytes = max_package_bytes

    def authorised(self, job_id: str, token: str) -> ExportJob:
        """Return the job that the token belongs to.

        Raises:
            MalformedId.
            Unauthorized: there is no such job, or its token is a different one.
        """
        job = self._exports.get(parse_uuid("export job", job_id))
        expected = job.get("callback_token_sha256", "") if job is not None else ""
        if job is None or not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), expected):
            raise Unauthorized(
                "This request needs the job's callback_token, as a bearer token or in the header "
                "'X-Callback-Token'."
            )
        return job

    def running(self, job: ExportJob, *, percent: float | None, message: str | None) -> ExportJob:
        """Claim the job or renew its lease, and store its progress.

        Raises:
            Conflict: the job has ended, or a worker holds it.
        """
        self._require_open(job)
        token = self._held(job)
        percent = job["progress_percent"] if percent is None else percent
        message = message or "converting elsewhere"
        self._exports.report(job["_id"], token, percent=percent, message=message, progress_step="elsewhere")
        return self._again(job)

    def failed(self, job: ExportJob, *, code: str, message: str) -> ExportJob:
        """Mark the job as failed.

        Raises:
            Conflict: the job has ended in another way, or a worker holds it.
        """
        outcome: CallbackOutcome = {
            "status": ExportStatus.FAILED,
            "error_code": code,
            "error_message": message,
        }
        if job.get("callback") == outcome:
            return job
        self._require_open(job)
        token, results = self._held(job), {"callback": outcome}

        def work(session: Session) -> None:
            failed = self._exports.fail(
                job["_id"], token, code=code, message=message, session=session, results=results
            )
            self._end(job, failed, session)

        self._database.transaction(work)
        return self._again(job)

    def completed(self, job: ExportJob) -> ExportJob:
        """Confirm that the job is completed by the package that was uploaded.

        Raises:
            Conflict: there is no package, or the job has ended in another way.
        """
        if _sent_package(job):
            return job
        self._require_open(job)
        raise Conflict(
            f"Export job {job['_id']} has no package yet: upload it with PUT "
            f"/api/v1/export/jobs/{job['_id']}/package, which completes the job.",
            status=job["status"],
        )

    def store_package(self, job: ExportJob, pieces: Iterator[bytes], sha256: str | None) -> ExportJob:
        """Store the package and complete the job. The package is not compared here, so it is not verified.

        Raises:
            Conflict: the job has ended in another way, or a worker holds it.
            InvalidField: the body is not a zip.
            FileTooLarge, IncompleteUpload: as for any upload.
        """
        if not _sent_package(job):
            self._require_open(job)
        token = None if _sent_package(job) else self._held(job)
        try:
            written = self._blobs.write(_zip(pieces), limit_bytes=self._max_package_bytes)
        except SizeLimitExceeded:
            raise FileTooLarge(self._max_package_bytes, setting="EXPORT_DISK") from None
        try:
            require_announced("The package has", written.sha256, sha256)
        except IncompleteUpload:
            self._blobs.discard(written)
            raise
        if token is None:
            self._blobs.discard(written)
            if blob_of(job["package"]).sha256 != written.sha256:
                raise _used(job)
            return job
        results = {"fidelity": _FIDELITY, "callback": {"status": ExportStatus.COMPLETED}}

        def refer(stored: Blob, session: Session) -> None:
            package = {"package": stored.reference()}
            completed = self._exports.complete(job["_id"], token, {**results, **package}, session)
            self._end(job, completed, session)

        self._blobs.publish(written, refer, described=of_package(job))
        return self._again(job)

    def _held(self, job: ExportJob) -> str:
        """Return the token of the caller's lease on the job; claim the job if the caller has no lease.

        Raises:
            Conflict: a worker holds the job.
        """
        lease = job.get("lease")
        if (
            lease is not None
            and lease["worker"] == WORKER
            and self._exports.renew(job["_id"], lease["token"], self._lease_s)
        ):
            return str(lease["token"])
        claimed = self._exports.claim(
            job["_id"], worker=WORKER, lease_s=self._lease_s, max_attempts=self._max_attempts
        )
        if claimed is None:
            raise Conflict(
                f"Export job {job['_id']} is run by a worker of this service, so callbacks are rejected.",
                worker=job.get("worker"),
            )
        return str(claimed["lease"]["token"])

    def _end(self, job: ExportJob, ended: bool, session: Session) -> None:
        if not ended:
            raise _used(self._again(job))
        self._blobs.release_all(blobs_of(job), session)

    def _again(self, job: ExportJob) -> ExportJob:
        after = self._exports.get(job["_id"])
        assert after is not None  # jobs are never removed
        return after

    @staticmethod
    def _require_open(job: ExportJob) -> None:
        if ExportStatus(job["status"]).final:
            raise _used(job)


def _sent_package(job: ExportJob) -> bool:
    outcome = job.get("callback")
    return outcome is not None and outcome.get("status") == ExportStatus.COMPLETED


def _used(job: ExportJob) -> Conflict:
    return Conflict(
        f"Export job {job['_id']} is already {job['status']}, so its callback_token is no longer valid.",
        status=job["status"],
    )


def _zip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    begin = b""
    for piece in pieces:
        begin += piece
        if len(begin) >= len(_ZIP):
            break
    if not begin.startswith(_ZIP):
        raise InvalidField.of("body", "must be a zip, as 'python -m exporters' writes it")
    yield begin
    yield from pieces
