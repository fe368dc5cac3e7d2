"""Who comes with a credential: API_KEY, a key of the API, or a session's token.

A recognised caller is remembered for a second in this process, so that a credential costs two look-ups a
second and not two a request. What is changed elsewhere (a key deleted, a user disabled) takes effect within
that second.
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
    """Whom this process has recognised lately, by the credential's hash."""

    def __init__(self) -> None:
        self._actors: dict[bytes, tuple[float, Actor]] = {}

    def get(self, credential: bytes) -> Actor | None:
        until, who = self._actors.get(credential, (0.0, None))
        return who if time.monotonic() < until else None

    def put(self, credential: bytes, who: Actor, began: float, expires_at: datetime | None) -> None:
        """``began``: when the look-up did, on the monotonic clock; what changes later may be missed in it."""
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
        """Raises: Unauthorized: nobody's credential, or no longer anybody's."""
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
        """Who made a signed URL, by ``actor.maker()``'s name, and what they may do now.

        Raises:
            Unauthorized: they may not come in any more.
        """
        digest = hashlib.sha256(f"maker {name}".encode()).digest()
        who = self._remembered.get(digest)
        if who is None:
            began = time.monotonic()
            who = self._keys.maker(*name.split(":", 1))
            self._remembered.put(digest, who, began, None)
        return who

    def api_key_digest(self, maker: str) -> str:
        """Part of what a URL of API_KEY's holder signs, so that another API_KEY ends it; else empty."""
        if self._api_key is None or maker != f"user:{ADMINISTRATOR.name}":
            return ""
        return hashlib.sha256(self._api_key).hexdigest()

    def end_session(self, credential: str) -> None:
        """Raises: NotPermitted: it is no session's."""
        self._sessions.end(credential)
        self._remembered.forget()

    def _recognised(self, credential: str) -> tuple[Actor, datetime | None]:
        if credential.startswith(PREFIX):
            return self._keys.actor(credential)
        if credential.count(".") == 2:
            return self._sessions.actor(credential)
        raise Unauthorized("The API key is wrong: send it in the header 'X-API-Key' or as a bearer token.")
