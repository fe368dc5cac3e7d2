"""The outbox: the transitions of objects, for webhooks. Events are written in the transaction of the change.

A worker moves the events to the deliveries of each webhook. A process knows the webhooks for at most
``KNOWN_S``, so without webhooks a change costs no query. A new webhook therefore gets the events of all
changes that begin ``KNOWN_S`` after it was stored.
"""

import time
from collections.abc import Callable, Iterable, Sequence

import orjson
from bson import ObjectId, Timestamp
from pymongo import ASCENDING

from model_service.actor import actor, namespace_of
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, JSONObject, NewEvent, OutboxEvent
from model_service.storage.webhooks.documents import Webhook

KNOWN_S = 0.5
TEST = "webhook.test"
# MongoDB replaces it at the insert with its logical clock, which each transaction moves on. So of two changes
# of one object, the later one has the higher value, whichever machines made them.
_NEXT = Timestamp(0, 0)


def wants(webhook: Webhook, event: NewEvent) -> bool:
    """Return whether the webhook's filters let the event pass."""
    kind = event["type"].partition(".")[0]
    return (
        not {event["type"], f"{kind}.*", "*"}.isdisjoint(webhook["events"])
        and webhook["namespace"] in (None, event["namespace"])
        and webhook["model"] in (None, event["model"])
    )


class Outbox:
    def __init__(self, database: Database) -> None:
        self._events = database.webhook_events
        self._webhooks = database.webhooks
        self._known: list[Webhook] = []
        self._known_until = 0.0

    def webhooks(self) -> list[Webhook]:
        """Return the active webhooks, as they were at most ``KNOWN_S`` ago."""
        began = time.monotonic()
        if began >= self._known_until:
            self._known = self.active()
            self._known_until = began + KNOWN_S
        return self._known

    def active(self, session: Session | None = None) -> list[Webhook]:
        """Return the active webhooks."""
        return list(self._webhooks.find({"active": True}, session=session))

    def record(self, transition: Callable[[], Iterable[NewEvent]], session: Session) -> None:
        """Store the events that a webhook wants. ``transition`` is called only if there are webhooks."""
        webhooks = self.webhooks()
        if not webhooks:
            return
        wanted = [event for event in transition() if any(wants(webhook, event) for webhook in webhooks)]
        if wanted:
            stored: list[OutboxEvent] = [{"_id": ObjectId(), "order": _NEXT, **event} for event in wanted]
            self._events.insert_many(stored, session=session)

    def oldest(self, limit: int, session: Session) -> list[OutboxEvent]:
        return list(self._events.find({}, sort=[("order", ASCENDING)], limit=limit, session=session))

    def remove(self, events: Sequence[OutboxEvent], session: Session) -> None:
        self._events.delete_many({"_id": {"$in": [event["_id"] for event in events]}}, session=session)

    def age_s(self) -> float:
        """Return the age of the oldest event in seconds, 0 without one."""
        first = self._events.find_one({}, {"at": True}, sort=[("order", ASCENDING)])
        return 0.0 if first is None else max(0.0, (now() - first["at"]).total_seconds())


def test_event(webhook: Webhook) -> OutboxEvent:
    """Return an event that tests a webhook."""
    webhook_id = webhook["_id"]
    path = f"/api/v1/webhooks/{webhook_id}"
    event = new_event("webhook", "test", webhook_id, "", path, before=None, after=None, data={})
    return {"_id": ObjectId(), "order": _NEXT, **event}


def body_of(event: NewEvent, public_url: str | None) -> str:
    """Return the JSON that receivers get.

    Args:
        public_url: the registry's address. Without one, the event has the path of its object.
    """
    data = {**event["data"], "url": f"{public_url or ''}{event['data']['path']}"}
    del data["path"]
    body = {"type": event["type"], "timestamp": event["at"], "data": data}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z).decode()


def new_event(
    kind: str,
    happened: str,
    subject_id: object,
    model: str,
    path: str,
    *,
    before: str | None,
    after: str | None,
    by: str | None = None,
    data: Fields,
) -> NewEvent:
    """Return the event of an object's transition.

    Args:
        model: the qualified name of the object's model.
        path: of the object in the API.
        before, after: its states; None: it did not exist, or does not any more.
        by: the user who made the change; default: the caller.
        data: further values for receivers; those of None are left out.
    """
    shown: JSONObject = {
        "id": str(subject_id),
        "state_before": before,
        "state": after,
        "actor": by or actor().name,
        "path": path,
    }
    for name, value in data.items():
        if value is not None:
            shown[name] = value if isinstance(value, int | float) else str(value)
    return {
        "type": f"{kind}.{happened}",
        "object": f"{kind}:{subject_id}",
        "model": model,
        "namespace": namespace_of(model),
        "at": now(),
        "data": shown,
    }
