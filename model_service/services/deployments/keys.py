"""Endpoint keys (``pk_…``): create, list, rotate, revoke. Inference servers apply a change within a second.

A key has 256 random bits and cannot be guessed, so it needs no slow hash: its plain sha256 is stored.
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from model_service.actor import Permission, require
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.ids import parse_uuid
from model_service.services.common.signing import Signing
from model_service.services.deployments.kinds import require_endpoint
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.deployments.documents import Deployment, DeploymentKey, new_deployment_key
from model_service.storage.stores import Stores

KEY_PREFIX = "pk_"
FIRST_KEY = "default"
MOST_KEYS = 100
_SHOWN = 10


def new_text(signing: Signing, subject_id: str, once: Once | None) -> str:
    """Return an endpoint key of 256 bits.

    Without ``once``, the key is random. With it, the key is derived from the idempotency key, ``subject_id``
    and the signing secret, so a repeated request returns the same key.
    """
    if once is None:
        return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"
    identity = f"{once.identity}\0{subject_id}".encode()
    digest = hmac.digest(signing.key("deployment-key"), identity, "sha256")
    return f"{KEY_PREFIX}{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(
    key_id: str, text: str, deployment_id: str, name: str, expires_at: datetime | None
) -> DeploymentKey:
    """Return the stored document of a key, which does not contain the key itself."""
    prefix, sha256 = text[:_SHOWN], sha256_of(text)
    return new_deployment_key(key_id, deployment_id, name, prefix, sha256, expires_at=expires_at, at=now())


class DeploymentKeyService:
    def __init__(
        self, stores: Stores, idempotency: Idempotency, signing: Signing, find: Callable[[str], Deployment]
    ) -> None:
        """``find`` returns the deployment with that id if the caller may read it."""
        self._database = stores.database
        self._deployments = stores.deployments
        self._keys = stores.deployment_keys
        self._history = stores.deployment_history
        self._audit = stores.audit
        self._idempotency = idempotency
        self._signing = signing
        self._find = find

    def list(self, deployment_id: str) -> list[DeploymentKey]:
        """Return the deployment's keys, newest first, including recently expired ones.

        Raises:
            MalformedId, NotFound.
        """
        return self._keys.of(self._find(deployment_id)["_id"])

    def create(
        self, deployment_id: str, *, name: str, expires_at: datetime | None, once: Once | None = None
    ) -> tuple[DeploymentKey, str]:
        """Create another key of a deployment. Returns it with its text, which is not stored.

        Raises:
            MalformedId, NotFound, NotPermitted.
            InvalidField: ``expires_at`` is in the past.
            Conflict: the deployment has no endpoint, or MOST_KEYS keys; or the key of a repeated request is
                gone.
        """
        deployment = self._changeable(deployment_id)
        require_endpoint(deployment, "given keys")
        _check_future(expires_at)

        def make(note: Note) -> tuple[DeploymentKey, str]:
            key, text = self._new(deployment, name, expires_at, once)

            def work(session: Session) -> None:
                note(key["_id"], session)
                self._insert(deployment, key, session)
                self._record("key_created", deployment, key, session, {})

            self._database.transaction(work)
            return key, text

        return self._idempotency.run(once, make, lambda key_id: self._again(deployment, key_id, once))

    def rotate(
        self, deployment_id: str, key_id: str, *, grace_s: int, once: Once | None = None
    ) -> tuple[DeploymentKey, str]:
        """Replace a key by a new one of the same name and expiry; the old one is valid for ``grace_s`` more.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the key was rotated before or has expired; or the key of a repeated request is gone.
        """
        deployment = self._changeable(deployment_id)
        wanted = parse_uuid("key", key_id)

        def make(note: Note) -> tuple[DeploymentKey, str]:
            old = self._present(deployment, wanted)
            if old.get("rotated") or (old["expires_at"] is not None and old["expires_at"] <= now()):
                raise Conflict("The key was already rotated, or has expired: create a new one.", id=wanted)
            key, text = self._new(deployment, old["name"], old["expires_at"], once)

            def work(session: Session) -> None:
                note(key["_id"], session)
                present = self._keys.get(deployment["_id"], wanted, session)
                if present is None:
                    raise NotFound("key", wanted)
                if present.get("rotated"):
                    raise Conflict("The key was already rotated: create a new one.", id=wanted)
                ends = [now() + timedelta(seconds=grace_s), present["expires_at"]]
                until = min(end for end in ends if end is not None)
                self._keys.replaced(wanted, until, session)
                self._insert(deployment, key, session)
                data = {"replaces": wanted, "grace_s": grace_s}
                self._record("key_rotated", deployment, key, session, data)

            self._database.transaction(work)
            return key, text

        return self._idempotency.run(once, make, lambda new_id: self._again(deployment, new_id, once))

    def revoke(self, deployment_id: str, key_id: str) -> None:
        """Revoke a key. Raises: MalformedId, NotFound, NotPermitted."""
        deployment = self._changeable(deployment_id)
        wanted = parse_uuid("key", key_id)

        def work(session: Session) -> bool:
            gone = self._keys.delete(deployment["_id"], wanted, session)
            if gone is not None:
                self._record("key_revoked", deployment, gone, session, {})
            return gone is not None

        if not self._database.transaction(work):
            raise NotFound("key", key_id)

    def _changeable(self, deployment_id: str) -> Deployment:
        deployment = self._find(deployment_id)
        require(Permission.DEPLOY, deployment["model_name"])
        return deployment

    def _present(self, deployment: Deployment, key_id: str) -> DeploymentKey:
        key = self._keys.get(deployment["_id"], key_id)
        if key is None:
            raise NotFound("key", key_id)
        return key

    def _new(
        self, deployment: Deployment, name: str, expires_at: datetime | None, once: Once | None
    ) -> tuple[DeploymentKey, str]:
        key_id = str(uuid.uuid4())
        text = new_text(self._signing, key_id, once)
        return new_key(key_id, text, deployment["_id"], name, expires_at), text

    def _again(self, deployment: Deployment, key_id: str, once: Once | None) -> tuple[DeploymentKey, str]:
        key = self._keys.get(deployment["_id"], key_id)
        if key is None:
            raise Conflict(
                "The key that this request created was revoked meanwhile: create a new one.", id=key_id
            )
        return key, new_text(self._signing, key_id, once)

    def _insert(self, deployment: Deployment, key: DeploymentKey, session: Session) -> None:
        if self._deployments.hold(deployment["_id"], session) is None:
            raise NotFound("deployment", deployment["_id"])
        if self._keys.count(deployment["_id"], session) >= MOST_KEYS:
            raise Conflict(f"A deployment has at most {MOST_KEYS} keys: revoke one first.", allowed=MOST_KEYS)
        self._keys.insert(key, session)

    def _record(
        self, event: str, deployment: Deployment, key: DeploymentKey, session: Session, more: Fields
    ) -> None:
        data = {"key_id": key["_id"], "name": key["name"], "prefix": key["prefix"], **more}
        subject, status = deployment["_id"], deployment["status"]
        self._history.record(subject, event, status, status, data, session)
        self._audit.record(
            event, "deployment", subject, session=session, name=deployment["model_name"], details=data
        )


def _check_future(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= now():
        raise InvalidField.of("expires_at", "must be in the future")
