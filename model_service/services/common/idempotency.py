"""Requests that create something and may be sent again: ``Idempotency-Key``.

A view makes a ``Once`` of its request with ``api.idempotency.requested_once()`` and hands it to the service,
whose creating method takes ``once: Once | None = None`` and does:

    def create(self, ..., once: Once | None = None) -> Document:
        return self._idempotency.run(once, lambda note: self._create(..., note), self.get)

    def _create(self, ..., note: Note) -> Document:
        ...
        def work(session):
            note(document["_id"], session)  # first: of two requests at once, the second waits here and fails
            ...

``run`` gives what ``create`` made, or what an earlier request with the same key did; ``once.replayed`` tells
the view which, and ``api.idempotency.mark(response, once)`` says so in the answer.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from model_service.actor import actor
from model_service.errors import IdempotencyKeyReused
from model_service.storage.common.db import Session
from model_service.storage.common.idempotency import AlreadyNoted, IdempotencyKeys

T = TypeVar("T")
Note = Callable[[Any, Session], None]


@dataclass
class Once:
    """One request that takes effect once, however often it is sent.

    Args:
        route: method and path: the same key on another route is another request.
        fingerprint: of the body, so that a key that is used again for something else is noticed.
    """

    key: str
    route: str
    fingerprint: str
    replayed: bool = field(default=False, init=False)

    @property
    def identity(self) -> str:
        """Each caller has keys of its own: no caller learns from another's."""
        return "\0".join((actor().name, self.route, self.key))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.identity.encode()).hexdigest()


class Idempotency:
    def __init__(self, keys: IdempotencyKeys) -> None:
        self._keys = keys

    def run(self, once: Once | None, create: Callable[[Note], T], load: Callable[[str], T]) -> T:
        """What ``create`` makes; the second time, what ``load`` finds by the id of what was made.

        Without a ``once``, ``create`` alone. What ``create`` or ``load`` raises passes through: a request
        that failed is not remembered and may be sent again.

        Raises:
            IdempotencyKeyReused: the key came with another body before.
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
            assert made is not None  # noted a moment ago, and kept for a day
            return load(made)

    def _made_before(self, once: Once) -> str | None:
        note = self._keys.get(once.id)
        if note is None:
            return None
        if note["fingerprint"] != once.fingerprint:
            raise IdempotencyKeyReused(once.key)
        once.replayed = True
        return str(note["resource_id"])
