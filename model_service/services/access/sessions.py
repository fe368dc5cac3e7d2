"""Sessions: a signed token for a user who signed in with a password (JWT, RFC 7519, HS256).

The token contains the user, the expiry and the user's ``epoch``; processes keep no state. A session that
is ended early is stored as revoked until its token expires.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import jwt
import structlog
from typing_extensions import TypedDict

from model_service.actor import Actor
from model_service.errors import NotPermitted, Unauthorized
from model_service.metrics import LOGINS
from model_service.services.access.passwords import matches
from model_service.services.common.signing import Signing
from model_service.storage.access.makers import actor_of
from model_service.storage.common.db import now
from model_service.storage.stores import Stores

log = structlog.get_logger(__name__)

_PURPOSE = "session"
_ALGORITHM = "HS256"
_CLAIMS = ["sub", "jti", "iat", "exp", "epoch"]


class _Claims(TypedDict):
    sub: str
    jti: str
    iat: int
    exp: int
    epoch: str


@dataclass(frozen=True)
class SessionToken:
    token: str
    user: str
    expires_at: datetime


class SessionService:
    def __init__(self, stores: Stores, signing: Signing, session_s: int) -> None:
        self._users = stores.users
        self._revoked = stores.revoked_sessions
        self._signing = signing
        self._length = timedelta(seconds=session_s)

    def open(self, name: str, password: str) -> SessionToken:
        """Open a session.

        Raises:
            Unauthorized: with the same message and duration for a wrong name and a wrong password.
        """
        user = self._users.get(name)
        usable = user is not None and not user["disabled"]
        if not matches(password, user["password"] if user is not None and usable else None) or user is None:
            LOGINS.labels(outcome="refused").inc()
            log.warning("session.refused", user=name[:64])
            raise Unauthorized("The user name or the password is wrong.")
        at = now()
        expires_at = (at + self._length).replace(microsecond=0)
        claims: _Claims = {
            "sub": name,
            "jti": uuid.uuid4().hex,
            "iat": int(at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "epoch": user["epoch"],
        }
        LOGINS.labels(outcome="opened").inc()
        token = jwt.encode(dict(claims), self._signing.key(_PURPOSE), algorithm=_ALGORITHM)
        return SessionToken(token, name, expires_at)

    def actor(self, token: str) -> tuple[Actor, datetime]:
        """Return the session's actor and its expiry.

        Raises:
            Unauthorized: the token is invalid or expired, or its user is gone, disabled or has signed out.
        """
        claims = self._claims(token)
        user = self._users.get(claims["sub"])
        if (
            user is None
            or user["disabled"]
            or user["epoch"] != claims["epoch"]
            or self._revoked.has(claims["jti"])
        ):
            raise _over()
        return actor_of(user), datetime.fromtimestamp(claims["exp"], UTC)

    def end(self, token: str) -> None:
        """End the session. Raises: NotPermitted: the request came with another credential."""
        try:
            claims = self._claims(token)
        except Unauthorized:
            raise NotPermitted(
                "There is no session to end: the request has another kind of credential."
            ) from None
        self._revoked.add(claims["jti"], datetime.fromtimestamp(claims["exp"], UTC))

    def _claims(self, token: str) -> _Claims:
        try:
            claims = jwt.decode(
                token,
                self._signing.key(_PURPOSE),
                algorithms=[_ALGORITHM],
                options={"require": _CLAIMS, "verify_iat": False},  # clocks of machines differ
            )
        except jwt.InvalidTokenError:
            raise _over() from None
        return cast(_Claims, claims)  # the signature shows that this service wrote them


def _over() -> Unauthorized:
    return Unauthorized(
        "The session has expired or does not exist: sign in again with POST /api/v1/sessions."
    )
