"""Room on the disks that are written to: of MongoDB, the file cache, the workspaces and the temporary folder.

What is known is at most some seconds old and is renewed beside the requests, never by each of them.
"""

import shutil
import tempfile
import threading
import time
from pathlib import Path

import structlog

from model_service.config import Settings
from model_service.errors import DiskFull
from model_service.storage.common.db import DATABASE_ERRORS, Database, deadline

log = structlog.get_logger(__name__)

MONGODB, CACHE, WORK, TEMP = "mongodb", "cache", "work", "temp"
# A sample of this age is renewed in the background; one that is much older, before it is used.
_FRESH_S, _STALE_S = 2.0, 30.0
_MONGODB_S = 0.9
# MongoDB writes each byte into its journal, its oplog and its data.
_WRITTEN_TIMES = 3


class DiskSpace:
    """Thread-safe. One for each process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._least = settings.disk_min_free
        self._folders = {WORK: settings.home / "work", TEMP: Path(tempfile.gettempdir())}
        if settings.cache_max_bytes:
            self._folders[CACHE] = settings.cache
        self._free: dict[str, int] = {}
        self._sampled_at = float("-inf")
        self._sampling = threading.Lock()

    def require_room(self, size_bytes: int = 0, *, known_for_s: float = _STALE_S) -> None:
        """Check that MongoDB's disk keeps DISK_MIN_FREE after ``size_bytes`` more.

        ``known_for_s`` is the age from which a sample is renewed before it is used.

        Raises:
            DiskFull: it does not. A disk whose room is unknown is taken for large enough.
        """
        age_s = time.monotonic() - self._sampled_at
        if age_s > known_for_s:
            self.sample()
        elif age_s > _FRESH_S and not self._sampling.locked():
            threading.Thread(target=self.sample, name="disk space", daemon=True).start()
        # Refused is only what a sample of this moment refuses, so that room that was made counts at once.
        written = size_bytes * _WRITTEN_TIMES
        if self._lacks(MONGODB, written) and self.sample() and self._lacks(MONGODB, written):
            raise DiskFull("MongoDB's disk", self._free[MONGODB], self._least, size_bytes)

    def short(self, *places: str) -> dict[str, int]:
        """The bytes free at each of these places that has less than DISK_MIN_FREE, found out now."""
        self.sample()
        return {place: self._free[place] for place in places if self._lacks(place, 0)}

    def free(self) -> dict[str, int]:
        """The bytes free at each place that tells them, as the last sample found them."""
        return dict(self._free)

    @property
    def accepts_writes(self) -> bool:
        return not self._lacks(MONGODB, 0)

    def sample(self) -> bool:
        """Look at all disks, unless another thread does so; then wait for it. Always True."""
        asked_at = time.monotonic()
        with self._sampling:
            if self._sampled_at < asked_at:
                self._free = self._look()
                self._sampled_at = time.monotonic()
        return True

    def _look(self) -> dict[str, int]:
        found = {place: free_bytes(folder) for place, folder in self._folders.items()}
        try:
            with deadline(_MONGODB_S):
                found[MONGODB] = self._database.free_disk_bytes()
        except DATABASE_ERRORS as exc:
            log.info("disk_space.unknown", error=type(exc).__name__)
        return {place: free for place, free in found.items() if free is not None}

    def _lacks(self, place: str, size_bytes: int) -> bool:
        free = self._free.get(place)
        return free is not None and free - size_bytes < self._least


def free_bytes(folder: Path) -> int | None:
    """Of the disk that has the folder, or would have it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
