"""Keys of the API: for a CI, a script, a device; each may do part of what its owner may.

A key reads ``ms_<prefix>_<secret>``: eight hexadecimal digits by which it is found, and 256 random bits.
Those need no slow hash, since there is nothing to guess: a plain sha256 is kept, and compared in constant
time.
"""

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from model_service.actor import ADMINISTRATOR, ALL, RESERVED_NAMES, Actor, Permission, actor, require
from model_service.errors import Conflict, InvalidField, NotFound, NotPermitted, Unauthorized
from model_service.services.access.users import actor_of
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page
from model_service.services.common.signing import Signing
from model_service.storage.access.keys import AccessKeys, DuplicatePrefix
from model_service.storage.access.users import Users
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Document, Session, now

PREFIX = "ms_"
USE_NOTED_EVERY = timedelta(minutes=1)

_KEY = re.compile(r"ms_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


class KeyService:
    def __init__(
        self,
        database: Database,
        keys: AccessKeys,
        users: Users,
        idempotency: Idempotency,
        signing: Signing,
        forget: Callable[[], None],
    ) -> None:
        """``forget`` is called after each change: what a key may do may have changed."""
        self._database = database
        self._keys = keys
        self._users = users
        self._idempotency = idempotency
        self._signing = signing
        self._audit = Audit(database)
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
    ) -> tuple[Document, str]:
        """Make a key of the caller, or, by an administrator, of ``owner``. Returns it with its text.

        With ``once`` the secret is derived from the request's own key, so that its repetition can be told it
        too.

        Raises:
            NotPermitted: for somebody else, or by a key, which would outlive itself in another one.
            NotFound: there is no such owner.
            InvalidField: it would have expired already.
            Conflict: of a repetition: the key was rotated since.
        """
        owner = self._owner(owner)
        if expires_at is not None and expires_at <= now():
            message = "must be in the future"
            raise InvalidField(f"expires_at {message}.", [{"field": "expires_at", "message": message}])
        key = {
            "_id": str(uuid.uuid4()),
            "name": name,
            "owner": owner,
            "scopes": sorted(set(scopes)),
            "namespaces": None if namespaces is None else sorted(set(namespaces)),
            "secrets": [],
            "expires_at": expires_at,
            "last_used_at": None,
            "created_by": actor().name,
            "created_at": now(),
        }
        shown = {field: key[field] for field in ("owner", "scopes", "namespaces", "expires_at")}

        random_part = self._random_part(once)

        def store(secret: Document, note: Note, session: Session) -> Document:
            note(key["_id"], session)
            if owner != ADMINISTRATOR.name and not self._users.hold(owner, session):
                raise NotFound("user", owner)
            stored = key | {"secrets": [secret]}
            self._keys.insert(stored, session)
            self._record("created", stored, session, shown)
            return stored

        def again(key_id: str) -> tuple[Document, str]:
            made = self.get(key_id)
            text = f"{PREFIX}{made['secrets'][-1]['prefix']}_{random_part}"
            if made["secrets"][-1]["sha256"] != _sha256(text):
                raise Conflict("The key was rotated since: its text is another one.", id=key_id)
            return made, text

        return self._idempotency.run(
            once,
            lambda note: self._with_new_secret(
                lambda secret, session: store(secret, note, session), random_part
            ),
            again,
        )

    def get(self, key_id: str) -> Document:
        """Raises: NotFound: there is none, or it is somebody else's."""
        key = self._keys.get(key_id)
        if key is None or not _may_see(key):
            raise NotFound("key", key_id)
        return key

    def search(self, owner: str | None, page: int, limit: int) -> Page:
        """The keys of the caller, newest first; an administrator's search finds everybody's, or
        ``owner``'s.

        Raises:
            NotPermitted: of somebody else.
        """
        who = actor()
        if Permission.ADMIN not in who.everywhere:
            if owner not in (None, who.name):
                require(Permission.ADMIN)
            owner = who.name
        items, total = self._keys.page(owner, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def rotate(self, key_id: str, grace_s: int) -> tuple[Document, str]:
        """Give the key another text; the present one works for ``grace_s`` more. A key may rotate itself.

        Raises:
            NotFound: there is none, or it is somebody else's.
            NotPermitted: by another key.
        """
        self._manageable(key_id)

        def store(secret: Document, session: Session) -> Document:
            # In the transaction's snapshot: else a rotation beside this one could bring back what it ended.
            key = self._keys.get(key_id, session)
            kept = []
            if key is not None and grace_s > 0:
                kept = [key["secrets"][-1] | {"expires_at": now() + timedelta(seconds=grace_s)}]
            key = self._keys.set_secrets(key_id, [*kept, secret], session)
            if key is None:
                raise NotFound("key", key_id)
            self._record("rotated", key, session, {"grace_s": grace_s})
            return key

        return self._with_new_secret(store, self._random_part(None))

    def delete(self, key_id: str) -> None:
        """Raises: NotFound: there is none, or it is somebody else's. NotPermitted: by another key."""
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
        """Who comes with this key, and until when it is good. Notes that it is used.

        Raises:
            Unauthorized: it is no key, or no longer, or its owner may not come in.
        """
        key = self._found(text)
        until = _usable_until(key, text)
        owner = self._owning(key["owner"])
        self._keys.note_use(key, USE_NOTED_EVERY)
        return _restricted(owner, key), until

    def maker(self, kind: str, name: str) -> Actor:
        """Who made a signed URL, and what they may do now. ``kind``: ``key`` (its id) or ``user``.

        Raises:
            Unauthorized: the key or its owner may not come in any more.
        """
        if kind != "key":
            return self._owning(name)
        key = self._keys.get(name)
        if key is None or (key["expires_at"] is not None and key["expires_at"] <= now()):
            raise _refused()
        return _restricted(self._owning(key["owner"]), key)

    def _found(self, text: str) -> Document:
        match = _KEY.fullmatch(text)
        key = self._keys.with_prefix(match[1]) if match else None
        if key is None:
            raise _refused()
        return key

    def _owning(self, owner: str) -> Actor:
        if owner == ADMINISTRATOR.name:
            return ADMINISTRATOR
        user = self._users.get(owner)
        if user is None or user["disabled"]:
            raise _refused()
        return actor_of(user)

    def _owner(self, wanted: str | None) -> str:
        who = actor()
        if Permission.ADMIN not in who.everywhere:
            if who.key_id is not None:
                raise NotPermitted("A key makes no other key: sign in, or ask an administrator.")
            if wanted not in (None, who.name):
                require(Permission.ADMIN)
        if wanted is None and who.name in RESERVED_NAMES:
            return ADMINISTRATOR.name  # where nobody is asked who they are, the key is for when they will be
        return wanted or who.name

    def _manageable(self, key_id: str) -> Document:
        key = self.get(key_id)
        who = actor()
        if who.key_id not in (None, key_id) and Permission.ADMIN not in who.everywhere:
            raise NotPermitted("A key manages no key but itself: sign in, or ask an administrator.")
        return key

    def _random_part(self, once: Once | None) -> str:
        """256 bits that nobody can guess: random ones, or of the request's key and our secret."""
        if once is None:
            return secrets.token_urlsafe(32)
        digest = hmac.digest(self._signing.key("access-key"), once.identity.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _with_new_secret(
        self, store: Callable[[Document, Session], Document], random_part: str
    ) -> tuple[Document, str]:
        while True:
            prefix = secrets.token_hex(4)
            text = f"{PREFIX}{prefix}_{random_part}"
            secret: Document = {"prefix": prefix, "sha256": _sha256(text), "expires_at": None}

            def work(session: Session, secret: Document = secret) -> Document:
                return store(secret, session)

            try:
                key = self._database.transaction(work)
            except DuplicatePrefix:
                continue  # one in four thousand million
            self._forget()
            return key, text

    def _record(self, action: str, key: Document, session: Session, details: Document) -> None:
        self._audit.record(action, "key", key["_id"], session=session, name=key["name"], details=details)


def _may_see(key: Document) -> bool:
    return key["owner"] == actor().name or Permission.ADMIN in actor().everywhere


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _usable_until(key: Document, text: str) -> datetime | None:
    """When this secret of the key, or the key, expires. Raises: Unauthorized: it is none, or it has."""
    digest = _sha256(text)
    at = now()
    for secret in key["secrets"]:
        if hmac.compare_digest(secret["sha256"], digest):
            ends = [end for end in (secret["expires_at"], key["expires_at"]) if end is not None]
            if any(end <= at for end in ends):
                raise Unauthorized("The API key has expired.")
            return min(ends, default=None)
    raise _refused()


def _restricted(owner: Actor, key: Document) -> Actor:
    """What the key may do: what its owner may, within its scopes and its namespaces."""
    scopes = _granted(key["scopes"])
    everywhere, only = owner.everywhere & scopes, key["namespaces"]
    namespaces = owner.in_namespaces if only is None else only
    return Actor(
        owner.name,
        everywhere=everywhere if only is None else frozenset(),
        in_namespaces={
            namespace: (owner.everywhere | owner.in_namespaces.get(namespace, frozenset())) & scopes
            for namespace in namespaces
        },
        key_id=key["_id"],
        tier=owner.tier,
    )


def _granted(scopes: list[str]) -> frozenset[Permission]:
    """A caller who may change something may see it; an administrator may do everything."""
    permissions = frozenset(Permission(scope) for scope in scopes)
    if Permission.ADMIN in permissions:
        return ALL
    return permissions | {Permission.READ} if permissions else permissions


def _refused() -> Unauthorized:
    return Unauthorized("The API key is wrong: send it in the header 'X-API-Key' or as a bearer token.")
