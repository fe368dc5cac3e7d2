"""API keys for programs such as a CI job or a device. A key has part of its owner's permissions.

A key has the form ``ms_<prefix>_<secret>``: eight hexadecimal digits that identify it, and 256 random bits.
These cannot be guessed, so they need no slow hash: their plain sha256 is stored, and compared in constant
time.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from model_service.actor import ADMINISTRATOR, RESERVED_NAMES, Actor, Permission, actor, require
from model_service.errors import Conflict, InvalidField, NotFound, NotPermitted, Unauthorized
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page
from model_service.services.common.signing import Signing
from model_service.storage.access.documents import AccessKey, KeySecret, new_access_key
from model_service.storage.access.keys import DuplicatePrefix
from model_service.storage.access.makers import restricted
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.stores import Stores

PREFIX = "ms_"
USE_NOTED_EVERY = timedelta(minutes=1)

_KEY = re.compile(r"ms_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


class KeyService:
    def __init__(
        self, stores: Stores, idempotency: Idempotency, signing: Signing, forget: Callable[[], None]
    ) -> None:
        """``forget`` is called after each change, since permissions may have changed."""
        self._database = stores.database
        self._keys = stores.access_keys
        self._users = stores.users
        self._makers = stores.makers
        self._audit = stores.audit
        self._idempotency = idempotency
        self._signing = signing
        self._forget = forget

    def create(
        self,
        *,
        name: str,
        scopes: list[Permission],
        namespaces: list[str] | None,
        expires_at: datetime | None,
        owner: str | None,
        once: Once | None = None,
    ) -> tuple[AccessKey, str]:
        """Create a key for the caller or, as an administrator, for ``owner``. Returns it with its text.

        With ``once`` the secret is derived from the idempotency key, so that a repetition returns it too.

        Raises:
            NotPermitted: for another user; or the caller uses a key, which would outlive itself in a new one.
            NotFound: there is no such owner.
            InvalidField: ``expires_at`` is in the past.
            Conflict: the request is a repetition, and the key was rotated since.
        """
        owner = self._owner(owner)
        if expires_at is not None and expires_at <= now():
            message = "must be in the future"
            raise InvalidField(f"expires_at {message}.", [{"field": "expires_at", "message": message}])
        key = new_access_key(
            name,
            owner,
            sorted(set(scopes)),
            None if namespaces is None else sorted(set(namespaces)),
            expires_at=expires_at,
            created_by=actor().name,
            at=now(),
        )
        details = {
            "owner": owner,
            "scopes": key["scopes"],
            "namespaces": key["namespaces"],
            "expires_at": expires_at,
        }
        random_part = self._random_part(once)

        def store(secret: KeySecret, note: Note, session: Session) -> AccessKey:
            note(key["_id"], session)
            if owner != ADMINISTRATOR.name and not self._users.hold(owner, session):
                raise NotFound("user", owner)
            stored: AccessKey = {**key, "secrets": [secret]}
            self._keys.insert(stored, session)
            self._record("created", stored, session, details)
            return stored

        def make(note: Note) -> tuple[AccessKey, str]:
            return self._with_new_secret(lambda secret, session: store(secret, note, session), random_part)

        return self._idempotency.run(once, make, lambda key_id: self._made(key_id, random_part))

    def _made(self, key_id: str, random_part: str) -> tuple[AccessKey, str]:
        """Return a key that an earlier request created, with its text. Raises: Conflict: it was rotated."""
        key = self.get(key_id)
        text = f"{PREFIX}{key['secrets'][-1]['prefix']}_{random_part}"
        if key["secrets"][-1]["sha256"] != _sha256(text):
            raise Conflict(
                "The key was rotated after this request: the first response cannot be repeated. "
                "Use the new key.",
                id=key_id,
            )
        return key, text

    def get(self, key_id: str) -> AccessKey:
        """Return a key. Raises: NotFound: there is none, or another user owns it."""
        key = self._keys.get(key_id)
        if key is None or not _may_see(key):
            raise NotFound("key", key_id)
        return key

    def search(self, owner: str | None, page: int, limit: int) -> Page[AccessKey]:
        """Return the caller's keys, newest first; for an administrator those of all users, or of ``owner``.

        Raises:
            NotPermitted: ``owner`` is another user, and the caller is not an administrator.
        """
        who = actor()
        if Permission.ADMIN not in who.everywhere:
            if owner not in (None, who.name):
                require(Permission.ADMIN)
            owner = who.name
        items, total = self._keys.page(owner, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def rotate(self, key_id: str, grace_s: int) -> tuple[AccessKey, str]:
        """Replace the key's secret; the present one is valid for ``grace_s`` more. A key may rotate itself.

        Raises:
            NotFound: there is no such key, or another user owns it.
            NotPermitted: the caller uses another key.
        """
        self._manageable(key_id)

        def store(secret: KeySecret, session: Session) -> AccessKey:
            # Read in the transaction, so that a concurrent rotation cannot restore a secret that was ended.
            key = self._keys.get(key_id, session)
            kept: list[KeySecret] = []
            if key is not None and grace_s > 0:
                kept = [{**key["secrets"][-1], "expires_at": now() + timedelta(seconds=grace_s)}]
            key = self._keys.set_secrets(key_id, [*kept, secret], session)
            if key is None:
                raise NotFound("key", key_id)
            self._record("rotated", key, session, {"grace_s": grace_s})
            return key

        return self._with_new_secret(store, self._random_part(None))

    def delete(self, key_id: str) -> None:
        """Delete a key. Raises: NotFound: none, or not the caller's. NotPermitted: by another key."""
        key = self._manageable(key_id)

        def work(session: Session) -> bool:
            gone = self._keys.delete(key_id, session)
            if gone:
                self._record("deleted", key, session, {"owner": key["owner"]})
            return gone

        found = self._database.transaction(work)
        self._forget()
        if not found:
            raise NotFound("key", key_id)

    def actor(self, text: str) -> tuple[Actor, datetime | None]:
        """Return the actor of a key and when the key expires, and record its use.

        Raises:
            Unauthorized: the key is unknown, expired or revoked, or its owner is gone or disabled.
        """
        key = self._found(text)
        until = _usable_until(key, text)
        owner = self._owning(key["owner"])
        self._keys.note_use(key, USE_NOTED_EVERY)
        return restricted(owner, key), until

    def maker(self, kind: str, name: str) -> Actor:
        """Return the signer of a URL, with present permissions. ``kind``: ``key`` (its id) or ``user``.

        Raises:
            Unauthorized: the key is gone or has expired, or its owner is gone or disabled.
        """
        found = self._makers.find(f"{kind}:{name}")
        if found is None:
            raise _refused()
        return found

    def _found(self, text: str) -> AccessKey:
        match = _KEY.fullmatch(text)
        key = self._keys.with_prefix(match[1]) if match else None
        if key is None:
            raise _refused()
        return key

    def _owning(self, owner: str) -> Actor:
        found = self._makers.user(owner)
        if found is None:
            raise _refused()
        return found

    def _owner(self, wanted: str | None) -> str:
        who = actor()
        if Permission.ADMIN not in who.everywhere:
            if who.key_id is not None:
                raise NotPermitted("An API key cannot create other keys: sign in, or ask an administrator.")
            if wanted not in (None, who.name):
                require(Permission.ADMIN)
        if wanted is None and who.name in RESERVED_NAMES:
            return ADMINISTRATOR.name  # a key created without authentication is for later use
        return wanted or who.name

    def _manageable(self, key_id: str) -> AccessKey:
        key = self.get(key_id)
        who = actor()
        if who.key_id not in (None, key_id) and Permission.ADMIN not in who.everywhere:
            raise NotPermitted("An API key can manage only itself: sign in, or ask an administrator.")
        return key

    def _random_part(self, once: Once | None) -> str:
        """Return 256 bits: random, or derived from the idempotency key and our secret."""
        if once is None:
            return secrets.token_urlsafe(32)
        digest = hmac.digest(self._signing.key("access-key"), once.identity.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _with_new_secret(
        self, store: Callable[[KeySecret, Session], AccessKey], random_part: str
    ) -> tuple[AccessKey, str]:
        while True:
            prefix = secrets.token_hex(4)
            text = f"{PREFIX}{prefix}_{random_part}"
            secret: KeySecret = {"prefix": prefix, "sha256": _sha256(text), "expires_at": None}

            def work(session: Session, secret: KeySecret = secret) -> AccessKey:
                return store(secret, session)

            try:
                key = self._database.transaction(work)
            except DuplicatePrefix:
                continue  # the prefix is taken: a chance of one in 4,000 million per key
            self._forget()
            return key, text

    def _record(self, action: str, key: AccessKey, session: Session, details: Fields) -> None:
        self._audit.record(action, "key", key["_id"], session=session, name=key["name"], details=details)


def _may_see(key: AccessKey) -> bool:
    return key["owner"] == actor().name or Permission.ADMIN in actor().everywhere


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _usable_until(key: AccessKey, text: str) -> datetime | None:
    """Return when this secret or its key expires. Raises: Unauthorized: wrong secret, or expired."""
    digest = _sha256(text)
    at = now()
    for secret in key["secrets"]:
        if hmac.compare_digest(secret["sha256"], digest):
            ends = [end for end in (secret["expires_at"], key["expires_at"]) if end is not None]
            if any(end <= at for end in ends):
                raise Unauthorized("The API key has expired.")
            return min(ends, default=None)
    raise _refused()


def _refused() -> Unauthorized:
    return Unauthorized(
        "The API key is not valid: send a valid one in the header 'X-API-Key' or as a bearer token."
    )
