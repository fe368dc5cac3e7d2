"""Verification of all stored data: bytes, references and counts."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model_service.actor import Permission, require
from model_service.storage.blobs.blobs import Blob, BlobDamaged
from model_service.storage.operations.integrity import Holding
from model_service.storage.stores import Stores

TASK = "verify"
Progress = Callable[[int, int], None]  # bytes done, bytes in total


@dataclass(frozen=True)
class Problem:
    message: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.message}{' (repaired)' if self.repaired else ''}"


class IntegrityService:
    def __init__(self, stores: Stores) -> None:
        self._blobs = stores.blobs
        self._counters = stores.counters
        self._integrity = stores.integrity
        self._maintenance = stores.maintenance

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Iterator[Problem]:
        """Read everything and yield each problem when it is found. Concurrent writes are allowed.

        Args:
            repair: correct counts. Lost bytes cannot be repaired: the problem names their holders.

        Raises:
            NotPermitted.
        """
        require(Permission.ADMIN)
        began = time.monotonic()
        blobs, total_bytes = self._counters.blobs()
        problems = repaired = 0
        for problem in self._problems(repair, progress, total_bytes):
            problems += not problem.repaired
            repaired += problem.repaired
            yield problem
        duration_s = round(time.monotonic() - began, 1)
        result = {"problems": problems, "repaired": repaired, "blobs": blobs, "duration_s": duration_s}
        self._maintenance.ended(TASK, result)

    def _problems(self, repair: bool, progress: Progress | None, total_bytes: int) -> Iterator[Problem]:
        for holding in self._integrity.wrong_holdings():
            yield self._holding(holding, repair)
        for message in self._integrity.wrong_documents():
            yield Problem(message)
        for blob_id in self._integrity.stray_chunks():
            yield Problem(f"chunks of {blob_id} belong to no file and to no upload")
        if repair and (groups := self._counters.rebuild()):
            yield Problem(f"the statistics of {groups} groups differed from a recount", repaired=True)
        done = 0
        for blob in self._integrity.blobs():
            damage = self._damage(blob)
            if damage and self._integrity.stored(blob.id):  # not deleted while it was read
                yield Problem(f"blob {blob.id} (sha256:{blob.sha256}): {damage}")
            done += blob.size_bytes
            if progress:
                progress(done, total_bytes)

    def _holding(self, holding: Holding, repair: bool) -> Problem:
        if not holding.stored:
            others = f" and {holding.held - 1} more" if holding.held > 1 else ""
            return Problem(f"{holding.holder}{others}: the blob {holding.blob_id} is not stored")
        times = f"its reference count is {holding.counted}, the number of its uses {holding.held}"
        difference = holding.held - holding.counted
        fixed = repair and self._integrity.correct_count(holding.blob_id, difference) is not None
        return Problem(f"blob {holding.blob_id}: {times}", repaired=fixed)

    def _damage(self, blob: Blob) -> str | None:
        digest = hashlib.sha256()
        try:
            for piece in self._blobs.read(blob.id, 0, blob.size_bytes):
                digest.update(piece)
        except BlobDamaged as exc:
            return str(exc).partition(": ")[2] or str(exc)
        if digest.hexdigest() != blob.sha256:
            return f"the sha256 of its bytes is {digest.hexdigest()}"
        return None
