"""The keys of a deployment, and when they were last used."""

import hashlib
import time
from collections.abc import Iterable
from threading import Lock

from model_service.storage.common.db import now
from model_service.storage.deployments.documents import ServedKey
from model_service.storage.deployments.usage import UsageCounts

# The last use of a key is written at most once in this time.
USE_NOTED_EVERY_S = 60.0


class Keys:
    """The keys of a deployment when they were read; never changed.

    A key is looked up by its sha256. The time of a lookup depends only on the hash, which an attacker without
    the key cannot control: timing does not reveal how much of a guessed key is correct.
    """

    def __init__(self, documents: Iterable[ServedKey]) -> None:
        """``documents`` of ``api_keys``: {_id, sha256, expires_at or None}."""
        self._keys: dict[bytes, tuple[str, float | None]] = {}
        for key in documents:
            expires_at = key.get("expires_at")
            end = None if expires_at is None else expires_at.timestamp()
            self._keys[bytes.fromhex(key["sha256"])] = (str(key["_id"]), end)

    def accepts(self, sent: str) -> str | None:
        """Return the id of the key that was sent; None if it is unknown or expired."""
        found = self._keys.get(hashlib.sha256(sent.encode("utf-8", "surrogatepass")).digest())
        if found is None:
            return None
        key_id, end = found
        return key_id if end is None or time.time() < end else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(frozenset(self._keys.items()))

    def __len__(self) -> int:
        return len(self._keys)


class KeyUses:
    """The last use of each key: recorded on the event loop, written by another thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._used: set[str] = set()
        self._written: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        with self._lock:
            self._used.add(key_id)

    def flush(self, counts: UsageCounts) -> None:
        """Write the uses of keys that were not written within the last minute; the others are kept.

        Raises: one of DATABASE_ERRORS; all uses are then kept.
        """
        moment = time.monotonic()
        self._written = {key: at for key, at in self._written.items() if moment - at < USE_NOTED_EVERY_S}
        with self._lock:
            due = self._used - self._written.keys()
        if due:
            counts.note_key_uses(due, now())
            with self._lock:
                self._used -= due
            self._written |= dict.fromkeys(due, moment)
