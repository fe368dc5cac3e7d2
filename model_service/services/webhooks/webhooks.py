"""Webhooks: who gets which events, and at which address.

A webhook belongs to the user who created it, and gets only the events of objects that its maker may read at
the delivery. A webhook that an API key created has the key's permissions, and ends with the key.
"""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from typing_extensions import TypedDict

from model_service.actor import RESERVED_NAMES, Permission, actor, maker, may_read, namespace_of
from model_service.config import Settings
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.outgoing import Refused, checked_addresses, resolve
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.common.outbox import KNOWN_S
from model_service.storage.stores import Stores
from model_service.storage.webhooks.documents import Webhook

_RESOLVE_S = 3.0


class WebhookChanges(TypedDict, total=False):
    """The fields of a webhook that a request sends."""

    url: str
    description: str | None
    events: list[str]
    namespace: str | None
    model: str | None
    active: bool


class WebhookService:
    def __init__(self, settings: Settings, stores: Stores, idempotency: Idempotency) -> None:
        self._settings = settings
        self._database = stores.database
        self._webhooks = stores.webhooks
        self._deliveries = stores.deliveries
        self._users = stores.users
        self._idempotency = idempotency
        self._resolvers = ThreadPoolExecutor(2, thread_name_prefix="webhook-names")

    def create(self, fields: WebhookChanges, once: Once | None = None) -> tuple[Webhook, str]:
        """Create a webhook for the caller. Returns it with its secret, which a repetition returns too.

        It gets the events of all changes that begin after this method has returned.

        Raises:
            InvalidField: the address is refused, or the filters exclude each other or what the caller reads.
            Conflict: the caller has WEBHOOKS_PER_USER; or the webhook was rotated since the first request.
        """
        self._check(fields)
        at, most = now(), self._settings.webhooks_per_user
        webhook: Webhook = {
            "_id": str(uuid.uuid4()),
            "url": fields["url"],
            "description": fields.get("description"),
            "events": fields.get("events", ["*"]),
            "namespace": fields.get("namespace"),
            "model": fields.get("model"),
            "active": fields.get("active", True),
            "owner": actor().name,
            "maker": maker(),
            "secret_serial": 1,
            "former_secret": None,
            "failures": 0,
            "created_at": at,
            "updated_at": at,
        }

        def make(note: Note) -> tuple[Webhook, str]:
            def work(session: Session) -> None:
                note(webhook["_id"], session)
                # It lets one creation of a user run at a time, and none after the user's deletion.
                if not self._users.hold(webhook["owner"], session) and webhook["owner"] not in RESERVED_NAMES:
                    raise NotFound("user", webhook["owner"])
                if self._webhooks.count(webhook["owner"], session) >= most:
                    raise Conflict(
                        f"You have {most} webhooks, the service's WEBHOOKS_PER_USER: delete one first.",
                        limit=most,
                    )
                self._webhooks.insert(webhook, session)

            self._database.transaction(work)
            _until_known()
            return webhook, self._webhooks.secret(webhook["_id"], 1)

        return self._idempotency.run(once, make, self._made)

    def _made(self, webhook_id: str) -> tuple[Webhook, str]:
        webhook = self.get(webhook_id)
        if webhook["secret_serial"] != 1:
            raise Conflict(
                "The secret was rotated after this request: the first response cannot be repeated.",
                id=webhook_id,
            )
        return webhook, self._webhooks.secret(webhook_id, 1)

    def get(self, webhook_id: str) -> Webhook:
        """Return a webhook. Raises: NotFound: there is none, or it is not the caller's."""
        webhook = self._webhooks.get(webhook_id)
        if webhook is None or not _is_own(webhook):
            raise NotFound("webhook", webhook_id)
        return webhook

    def page(self, page: int, limit: int) -> Page[Webhook]:
        """Return the caller's webhooks, newest first; for an administrator those of all users."""
        who = actor()
        query: Fields = {}
        if Permission.ADMIN not in who.everywhere:
            query = {"owner": who.name} if who.key_id is None else {"maker": maker()}
        items, total = self._webhooks.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def update(self, webhook_id: str, changes: WebhookChanges) -> Webhook:
        """Change the fields that are sent. Every change ends the pause after failures.

        Raises:
            NotFound. InvalidField: as ``create``.
        """
        present = self.get(webhook_id)
        filters: WebhookChanges = {"namespace": present["namespace"], "model": present["model"]}
        self._check({**filters, **changes} if filters.keys() & changes.keys() else changes)
        after = self._change(webhook_id, lambda before: changes, "updated")
        self._deliveries.hurry(webhook_id)
        if changes.keys() & {"active", "events", "namespace", "model"}:
            _until_known()
        return after

    def rotate(self, webhook_id: str, grace_s: int) -> tuple[Webhook, str]:
        """Replace the secret. Returns the webhook and the new secret; both sign for ``grace_s``.

        Raises:
            NotFound.
        """

        def edit(before: Webhook) -> Fields:
            serial = before["secret_serial"]
            former = {"serial": serial, "until": now() + timedelta(seconds=grace_s)}
            return {"secret_serial": serial + 1, "former_secret": former if grace_s else None}

        after = self._change(webhook_id, edit, "rotated")
        return after, self._webhooks.secret(webhook_id, after["secret_serial"])

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook and its deliveries. Raises: NotFound."""
        self.get(webhook_id)
        gone = self._database.transaction(lambda session: self._webhooks.delete(webhook_id, session))
        self._deliveries.remove_of([webhook_id])
        if gone is None:
            raise NotFound("webhook", webhook_id)

    def _change(self, webhook_id: str, edit: Callable[[Webhook], Fields], action: str) -> Webhook:
        self.get(webhook_id)

        def work(session: Session) -> Webhook | None:
            before = self._webhooks.get(webhook_id, session)
            if before is None:
                return None
            return self._webhooks.update(webhook_id, edit(before), session, action=action)

        after = self._database.transaction(work)
        if after is None:
            raise NotFound("webhook", webhook_id)
        return after

    def _check(self, fields: WebhookChanges) -> None:
        model, namespace = fields.get("model"), fields.get("namespace")
        if model is not None and namespace is not None and namespace_of(model) != namespace:
            raise InvalidField.of("model", f"a name in the namespace {namespace!r}, or no namespace")
        where = namespace_of(model) if model is not None else namespace
        if where is not None and not may_read(f"{where}/x" if where else "x"):
            field = "namespace" if model is None else "model"
            raise InvalidField.of(field, "a namespace that you may read")
        if "url" in fields:
            try:
                checked_addresses(fields["url"], self._settings.webhook_networks, self._resolve)
            except Refused as exc:
                raise InvalidField(str(exc), [{"field": "url", "message": str(exc)}]) from None
            except OSError:
                pass  # the name may be resolved later, and by the worker; each delivery checks it

    def _resolve(self, host: str, port: int) -> list[str]:
        """Resolve a name, within a time that a request can wait. Raises: OSError."""
        return self._resolvers.submit(resolve, host, port).result(timeout=_RESOLVE_S)


def _is_own(webhook: Webhook) -> bool:
    """Return whether the caller may manage the webhook. A key has only the webhooks that it created."""
    who = actor()
    if Permission.ADMIN in who.everywhere:
        return True
    return webhook["maker"] == maker() if who.key_id is not None else webhook["owner"] == who.name


def _until_known() -> None:
    """Wait until every process knows the webhook as it is now; see ``storage.common.outbox``."""
    time.sleep(KNOWN_S)
