"""Free space on the disks of MongoDB, the file cache, the workspaces and the temporary folder.

The sampled values are at most some seconds old. A background thread renews them, not every request.
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
# A sample of this age is renewed in the background; a stale one is renewed before it is used.
_FRESH_S, _STALE_S = 2.0, 30.0
_MONGODB_S = 0.9
# MongoDB writes each byte to its journal, its oplog and its data.
_WRITTEN_TIMES = 3


class DiskSpace:
    """Free disk space. Thread-safe. One instance per process."""

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
        """Check that DISK_MIN_FREE stays free on MongoDB's disk after ``size_bytes`` more.

        A sample older than ``known_for_s`` is renewed before it is used.

        Raises:
            DiskFull: too little would stay free. A disk of unknown size is never full.
        """
        age_s = time.monotonic() - self._sampled_at
        if age_s > known_for_s:
            self.sample()
        elif age_s > _FRESH_S and not self._sampling.locked():
            threading.Thread(target=self.sample, name="disk space", daemon=True).start()
        # Only a new sample can reject a write, so that freed space counts at once.
        written = size_bytes * _WRITTEN_TIMES
        if self._lacks(MONGODB, written) and self.sample() and self._lacks(MONGODB, written):
            raise DiskFull("MongoDB's disk", self._free[MONGODB], self._least, size_bytes)

    def short(self, *places: str) -> dict[str, int]:
        """Sample now and return the free bytes of those places that have less than DISK_MIN_FREE."""
        self.sample()
        return {place: self._free[place] for place in places if self._lacks(place, 0)}

    def free(self) -> dict[str, int]:
        """Return the free bytes of each place with a known value, as of the last sample."""
        return dict(self._free)

    @property
    def accepts_writes(self) -> bool:
        return not self._lacks(MONGODB, 0)

    def sample(self) -> bool:
        """Sample all disks, or wait for another thread's sample. Always returns True."""
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
    """Return the free bytes of the folder's disk; the folder need not exist. None: unknown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
