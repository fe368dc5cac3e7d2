"""The state of a job's training, stored after each epoch: another attempt continues with it.

The child writes it into its workspace. The child has read an untrusted model, so the file is opened without
following links, and only the next child of the same job reads it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from model_service.jobs.context import Context
from model_service.jobs.leased import JobLost
from model_service.jobs.source import write_blob
from model_service.storage.blobs.blobs import Blob, SizeLimitExceeded, WriteExpired
from model_service.storage.blobs.disk_space import MONGODB
from model_service.storage.common.db import Session
from model_service.storage.exports.documents import ExportJob

log = structlog.get_logger(__name__)

# As in ``exporters.optimize.states``
_FILE = "checkpoint.pt"
_PIECE = 1 << 20


class TrainingState:
    def __init__(self, context: Context, job: ExportJob, workspace: Path) -> None:
        self._context, self._job = context, job
        self.folder = workspace / "training"
        self._stored: int | None = None  # the inode of the file that is stored

    def fetch(self) -> Path:
        """Write the stored state, if there is one, into the workspace. Returns the folder for the child."""
        self.folder.mkdir()
        if (stored := self._job.get("training_state")) is not None:
            write_blob(self._context.stores.blobs, stored, self.folder / _FILE, "training state")
        return self.folder

    def store(self) -> None:
        """Store the file in place of the one before, if it is a new one.

        Raises:
            JobLost: the lease is lost.
        """
        if self._context.disk.short(MONGODB):
            return  # the training goes on; only an interruption would cost more
        with suppress(OSError):
            file = _opened(self.folder)
            with os.fdopen(file, "rb") as state:
                found = os.fstat(file)
                if found.st_ino == self._stored or not stat.S_ISREG(found.st_mode):
                    return
                self._write(iter(lambda: state.read(_PIECE), b""))
                self._stored = found.st_ino

    def _write(self, pieces: Iterator[bytes]) -> None:
        stores, job = self._context.stores, self._job
        try:
            written = stores.blobs.write(pieces, limit_bytes=self._context.settings.export_disk)
        except SizeLimitExceeded:
            log.warning("training_state.too_large", job_id=job["_id"])
            return

        def refer(blob: Blob, session: Session) -> None:
            reference = blob.reference()
            before = stores.exports.set_training_state(job["_id"], job["lease"]["token"], reference, session)
            if before is None:
                raise JobLost
            if "training_state" in before:
                stores.blobs.release_all([before["training_state"]["file_id"]], session)

        try:
            stores.blobs.publish(written, refer)
        except WriteExpired as exc:
            log.warning("training_state.lost", job_id=job["_id"], error=str(exc))


def _opened(folder: Path) -> int:
    """Return a descriptor of the state's file; neither it nor its folder may be a link. Raises: OSError."""
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(_FILE, flags, dir_fd=inside)
    finally:
        os.close(inside)
