"""The webhooks collection, and the secrets that sign their deliveries."""

import base64
import hmac
from collections.abc import Collection
from functools import cached_property

from pymongo import ReturnDocument

from model_service.config import redact_url
from model_service.storage.common.audit import Audit
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.common.pages import page_of
from model_service.storage.common.secrets import Secrets
from model_service.storage.webhooks.documents import Webhook

_PREFIX = "whsec_"


class Webhooks:
    def __init__(self, database: Database, audit: Audit, secrets: Secrets) -> None:
        self._webhooks = database.webhooks
        self._audit = audit
        self._secrets = secrets

    @cached_property
    def _root(self) -> bytes:
        return self._secrets.get("webhooks")

    def secret(self, webhook_id: str, serial: int) -> str:
        """Return a signing secret in the form of Standard Webhooks: derived, so it is stored nowhere."""
        derived = hmac.digest(self._root, f"{webhook_id} {serial}".encode(), "sha256")
        return _PREFIX + base64.b64encode(derived).decode()

    def secrets_of(self, webhook: Webhook) -> list[str]:
        """Return the secrets that sign now: the present one and, after a rotation, the former one."""
        serials, former = [webhook["secret_serial"]], webhook["former_secret"]
        if former is not None and former["until"] > now():
            serials.append(former["serial"])
        return [self.secret(webhook["_id"], serial) for serial in serials]

    def insert(self, webhook: Webhook, session: Session) -> None:
        self._webhooks.insert_one(webhook, session=session)
        self._record("created", webhook, session, _shown(webhook))

    def get(self, webhook_id: str, session: Session | None = None) -> Webhook | None:
        return self._webhooks.find_one({"_id": webhook_id}, session=session)

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[Webhook], int]:
        return page_of(self._webhooks, query, skip, limit)

    def count(self, owner: str, session: Session) -> int:
        return self._webhooks.count_documents({"owner": owner}, session=session)

    def update(self, webhook_id: str, changes: Fields, session: Session, *, action: str) -> Webhook | None:
        """Change fields and end a pause. Returns the webhook after the change; None if there is none."""
        stored = {**changes, "failures": 0, "updated_at": now()}
        after = self._webhooks.find_one_and_update(
            {"_id": webhook_id},
            {"$set": stored, "$unset": {"paused_until": ""}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if after is not None:
            self._record(action, after, session, {"fields": sorted(changes)})
        return after

    def delete(self, webhook_id: str, session: Session) -> Webhook | None:
        """Delete a webhook; a worker removes its pending deliveries. None if there is none."""
        gone = self._webhooks.find_one_and_delete({"_id": webhook_id}, session=session)
        if gone is not None:
            self._record("deleted", gone, session, _shown(gone))
        return gone

    def delete_of(self, owner: str, session: Session) -> int:
        """Delete the webhooks of a user. Returns their number."""
        found = list(self._webhooks.find({"owner": owner}, {"_id": True}, session=session))
        return sum(self.delete(webhook["_id"], session) is not None for webhook in found)

    def existing(self, webhook_ids: Collection[str]) -> set[str]:
        found = self._webhooks.find({"_id": {"$in": list(webhook_ids)}}, {"_id": True})
        return {webhook["_id"] for webhook in found}

    def open(self, webhook_ids: Collection[str]) -> list[Webhook]:
        """Return those of the webhooks that may get events now: active and not paused."""
        paused = {"$not": [{"$gt": ["$paused_until", "$$NOW"]}]}
        query = {"_id": {"$in": list(webhook_ids)}, "active": True, "$expr": paused}
        return list(self._webhooks.find(query))

    def inactive(self, webhook_ids: Collection[str]) -> list[str]:
        found = self._webhooks.find({"_id": {"$in": list(webhook_ids)}, "active": False}, {"_id": True})
        return [webhook["_id"] for webhook in found]

    def pause(self, webhook_id: str, seconds: float) -> None:
        """Deliver nothing to this webhook for this time."""
        paused = {"paused_until": from_now(seconds), "failures": {"$add": ["$failures", 1]}}
        self._webhooks.update_one({"_id": webhook_id}, [{"$set": paused}])

    def resume(self, webhook_id: str) -> None:
        """End a pause, and forget the failures before it."""
        self._webhooks.update_one(
            {"_id": webhook_id}, {"$set": {"failures": 0}, "$unset": {"paused_until": ""}}
        )

    def _record(self, action: str, webhook: Webhook, session: Session, details: Fields) -> None:
        self._audit.record(action, "webhook", webhook["_id"], session=session, details=details)


def _shown(webhook: Webhook) -> Fields:
    """Return the details for the audit log. The path of an address is often a secret."""
    shown: Fields = webhook
    fields = {name: shown[name] for name in ("events", "namespace", "model", "owner")}
    return {"address": redact_url(webhook["url"]), **fields}
