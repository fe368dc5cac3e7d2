"""Idempotent requests that create something: ``Idempotency-Key``.

A view creates a ``Once`` with ``api.idempotency.requested_once()`` and passes it to the service, whose
creating method takes ``once: Once | None = None`` and does:

    def create(self, ..., once: Once | None = None) -> Document:
        return self._idempotency.run(once, lambda note: self._create(..., note), self.get)

    def _create(self, ..., note: Note) -> Document:
        ...
        def work(session):
            note(document["_id"], session)  # first, so that the second of two concurrent requests fails here
            ...

``run`` returns the result of ``create``, or that of an earlier request with the same key. ``once.replayed``
shows the view which, and ``api.idempotency.mark(response, once)`` marks the response accordingly.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from model_service.actor import actor
from model_service.errors import IdempotencyKeyReused
from model_service.storage.common.db import Session
from model_service.storage.common.idempotency import AlreadyNoted, IdempotencyKeys

T = TypeVar("T")
Note = Callable[[object, Session], None]


@dataclass
class Once:
    """A request that takes effect once, however often it is sent.

    Args:
        route: method and path. The same key on another route is another request.
        fingerprint: digest of the body, to detect a key that is reused for another body.
    """

    key: str
    route: str
    fingerprint: str
    replayed: bool = field(default=False, init=False)

    @property
    def identity(self) -> str:
        """The key with its route and caller: keys of different callers never match."""
        return "\0".join((actor().name, self.route, self.key))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.identity.encode()).hexdigest()


class Idempotency:
    def __init__(self, keys: IdempotencyKeys) -> None:
        self._keys = keys

    def run(self, once: Once | None, create: Callable[[Note], T], load: Callable[[str], T]) -> T:
        """Return the result of ``create``; for a repetition, call ``load`` with the id of the earlier result.

        Without ``once``, call only ``create``. Errors of both are passed on. A failed request is
        not recorded and can be sent again.

        Raises:
            IdempotencyKeyReused: the key was used before with another body.
        """
        if once is None:
            return create(lambda resource_id, session: None)
        if (made := self._made_before(once)) is not None:
            return load(made)
        try:
            return create(
                lambda resource_id, session: self._keys.note(once.id, once.fingerprint, resource_id, session)
            )
        except AlreadyNoted:
            made = self._made_before(once)
            assert made is not None  # recorded a moment ago, and kept for a day
            return load(made)

    def _made_before(self, once: Once) -> str | None:
        note = self._keys.get(once.id)
        if note is None:
            return None
        if note["fingerprint"] != once.fingerprint:
            raise IdempotencyKeyReused(once.key)
        once.replayed = True
        return str(note["resource_id"])
