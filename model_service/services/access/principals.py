"""Authentication by credential: API_KEY, an API key, or a session token.

An authenticated actor is cached for a second in this process, so that a credential costs two queries a second
instead of two a request. A change elsewhere (a deleted key, a disabled user) takes effect within that second.
"""

import hashlib
import hmac
import time
from datetime import UTC, datetime

from model_service.actor import ADMINISTRATOR, Actor
from model_service.errors import Unauthorized
from model_service.services.access.keys import PREFIX, KeyService
from model_service.services.access.sessions import SessionService

REMEMBERED_S = 1.0
_MOST = 10_000


class Remembered:
    """Cache of the actors that this process has authenticated, by the credential's hash."""

    def __init__(self) -> None:
        self._actors: dict[bytes, tuple[float, Actor]] = {}

    def get(self, credential: bytes) -> Actor | None:
        until, who = self._actors.get(credential, (0.0, None))
        return who if time.monotonic() < until else None

    def put(self, credential: bytes, who: Actor, began: float, expires_at: datetime | None) -> None:
        """``began``: monotonic time at the look-up's start; its result may miss any later change."""
        until = began + REMEMBERED_S
        if expires_at is not None:
            until = min(until, began + (expires_at - datetime.now(UTC)).total_seconds())
        if len(self._actors) >= _MOST:
            self._actors = {}
        self._actors[credential] = (until, who)

    def forget(self) -> None:
        self._actors = {}


class Principals:
    def __init__(
        self, api_key: str | None, keys: KeyService, sessions: SessionService, remembered: Remembered
    ) -> None:
        self._api_key = None if api_key is None else api_key.encode()
        self._keys = keys
        self._sessions = sessions
        self._remembered = remembered

    def actor(self, credential: str) -> Actor:
        """Return the credential's actor. Raises: Unauthorized: it is unknown or no longer valid."""
        sent = credential.encode()
        if self._api_key is not None and hmac.compare_digest(sent, self._api_key):
            return ADMINISTRATOR
        digest = hashlib.sha256(sent).digest()
        who = self._remembered.get(digest)
        if who is None:
            began = time.monotonic()
            who, expires_at = self._recognised(credential)
            self._remembered.put(digest, who, began, expires_at)
        return who

    def maker(self, name: str) -> Actor:
        """Return the actor who signed a URL, by the name from ``actor.maker()``, with present permissions.

        Raises:
            Unauthorized: the actor is no longer valid.
        """
        digest = hashlib.sha256(f"maker {name}".encode()).digest()
        who = self._remembered.get(digest)
        if who is None:
            began = time.monotonic()
            who = self._keys.maker(*name.split(":", 1))
            self._remembered.put(digest, who, began, None)
        return who

    def api_key_digest(self, maker: str) -> str:
        """Return API_KEY's digest for URLs signed with it, which a new API_KEY invalidates; otherwise ""."""
        if self._api_key is None or maker != f"user:{ADMINISTRATOR.name}":
            return ""
        return hashlib.sha256(self._api_key).hexdigest()

    def end_session(self, credential: str) -> None:
        """End the session. Raises: NotPermitted: the credential is not a session token."""
        self._sessions.end(credential)
        self._remembered.forget()

    def _recognised(self, credential: str) -> tuple[Actor, datetime | None]:
        if credential.startswith(PREFIX):
            return self._keys.actor(credential)
        if credential.count(".") == 2:
            return self._sessions.actor(credential)
        raise Unauthorized(
            "The API key is not valid: send a valid one in the header 'X-API-Key' or as a bearer token."
        )
