"""The webhook_deliveries collection: the events of each webhook, until they are delivered or given up.

A worker holds the lease of a webhook while it delivers, so the deliveries of one queue never overtake one
another.
"""

from collections.abc import Callable, Collection
from datetime import timedelta
from itertools import islice

from pymongo import ASCENDING

from model_service.states import DeliveryStatus
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, NewEvent, OutboxEvent
from model_service.storage.common.outbox import TEST, Outbox, wants
from model_service.storage.common.pages import page_of, within
from model_service.storage.webhooks.documents import Attempt, Delivery, Webhook, new_delivery_id

# Limits of a transaction: events, and deliveries, which are at most their product with the webhooks.
_MOST_EVENTS = 200
_MOST_DELIVERIES = 5000
# More blocked queues than this are skipped here instead of by the query.
_MOST_EXCLUDED = 1000
_PENDING: dict[str, object] = {"status": DeliveryStatus.PENDING}


class Deliveries:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._deliveries = database.webhook_deliveries

    def distribute(
        self,
        outbox: Outbox,
        may_get: Callable[[Webhook, NewEvent], bool],
        body_of: Callable[[NewEvent], str],
    ) -> int:
        """Move the oldest events of the outbox to the webhooks that want them. Returns the number of events.

        Two workers may call it at the same time: one of the transactions is retried. The transaction's
        snapshot has every earlier event of an object that it has a later one of.

        Args:
            may_get: whether the owner of the webhook may read the event's object.
            body_of: the JSON that is sent.
        """

        def work(session: Session) -> int:
            # Read here: an event can be of a webhook that this process does not know yet.
            webhooks = outbox.active(session)
            most = min(_MOST_EVENTS, max(1, _MOST_DELIVERIES // max(1, len(webhooks))))
            events = outbox.oldest(most, session)
            if not events:
                return 0
            found = [
                new_delivery(webhook, event, body_of(event))
                for event in events
                for webhook in webhooks
                if wants(webhook, event) and may_get(webhook, event)
            ]
            if found:
                self._deliveries.insert_many(found, session=session)
            outbox.remove(events, session)
            return len(events)

        return self._db.transaction(work)

    def insert(self, delivery: Delivery, session: Session) -> None:
        self._deliveries.insert_one(delivery, session=session)

    def get(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        return self._deliveries.find_one({"_id": delivery_id, "webhook_id": webhook_id})

    def page(
        self, webhook_id: str, namespaces: list[str] | None, query: Fields, skip: int, limit: int
    ) -> tuple[list[Delivery], int]:
        """Return the newest deliveries about objects of these namespaces, or of all; and tests."""
        readable = {} if namespaces is None else {"$or": [within(namespaces), {"type": TEST}]}
        return page_of(self._deliveries, {"webhook_id": webhook_id, **query, **readable}, skip, limit)

    def waiting(self) -> list[str]:
        """Return the webhooks that have pending deliveries."""
        return list(self._deliveries.distinct("webhook_id", _PENDING))

    def due(self, webhook_id: str, limit: int) -> list[Delivery]:
        """Return the oldest pending deliveries, without the queues whose first one waits for its next try."""
        pending = {"webhook_id": webhook_id, **_PENDING}
        later = {**pending, "$expr": {"$gt": ["$next_attempt_at", "$$NOW"]}}
        # One moment: a cursor could pass the place of an event and then see a later one of its object.
        with self._db.snapshot() as session:
            blocked = {
                each["queue"] for each in self._deliveries.find(later, {"queue": True}, session=session)
            }
            excluded = {"queue": {"$nin": list(blocked)}} if 0 < len(blocked) <= _MOST_EXCLUDED else {}
            with self._deliveries.find(
                pending | excluded, sort=[("order", ASCENDING)], batch_size=limit, session=session
            ) as found:
                return list(islice((each for each in found if each["queue"] not in blocked), limit))

    def delivered(self, delivery: Delivery, attempt: Attempt, keep: timedelta) -> None:
        self._end(delivery, DeliveryStatus.DELIVERED, attempt, keep)

    def failed(
        self, delivery: Delivery, attempt: Attempt, retry_s: float, give_up_s: float, keep: timedelta
    ) -> None:
        """Store a failed attempt: the next one follows after ``retry_s``, or the delivery is given up.

        Args:
            give_up_s: how long deliveries are tried.
        """
        if now() >= delivery["since"] + timedelta(seconds=give_up_s):
            self._end(delivery, DeliveryStatus.DEAD_LETTERED, attempt, keep)
            return
        change = {
            "attempts": delivery["attempts"] + 1,
            "last_attempt": {"$literal": attempt},
            "next_attempt_at": from_now(retry_s),
        }
        self._deliveries.update_one(_unchanged(delivery), [{"$set": change}])

    def withhold(self, delivery: Delivery, keep: timedelta) -> None:
        """End a delivery that the webhook's owner may not get any more."""
        self._end(delivery, DeliveryStatus.WITHHELD, None, keep)

    def give_up(self, webhook_ids: Collection[str], give_up_s: float, keep: timedelta) -> int:
        """Give up all deliveries of these webhooks whose time has passed. Returns their number."""
        ended = {"status": DeliveryStatus.DEAD_LETTERED, "expires_at": now() + keep}
        passed = {"$expr": {"$lt": ["$since", from_now(-give_up_s)]}}
        query = {"webhook_id": {"$in": list(webhook_ids)}, **_PENDING, **passed}
        return self._deliveries.update_many(query, {"$set": ended}).modified_count

    def hurry(self, webhook_id: str) -> None:
        """Make all pending deliveries of a webhook due now."""
        pending = {"webhook_id": webhook_id, **_PENDING}
        self._deliveries.update_many(pending, {"$set": {"next_attempt_at": now()}})

    def send_again(self, delivery_id: str, session: Session) -> Delivery | None:
        """Make a delivery due now; one that has ended gets a queue of its own. None if there is none."""
        ended = {"_id": delivery_id, "status": {"$ne": DeliveryStatus.PENDING}}
        at = now()
        again = {
            "status": DeliveryStatus.PENDING,
            "queue": delivery_id,
            "attempts": 0,
            "next_attempt_at": at,
            "since": at,
        }
        self._deliveries.update_one(ended, {"$set": again, "$unset": {"expires_at": ""}}, session=session)
        return self._deliveries.find_one({"_id": delivery_id}, session=session)

    def remove_of(self, webhook_ids: Collection[str]) -> int:
        """Remove the deliveries of deleted webhooks. Returns their number."""
        gone = {"webhook_id": {"$in": list(webhook_ids)}}
        return self._deliveries.delete_many(gone).deleted_count

    def oldest_age_s(self, webhook_ids: Collection[str]) -> float:
        """Return how long the longest pending delivery of these webhooks is tried, 0 without one."""
        pending = {"webhook_id": {"$in": list(webhook_ids)}, **_PENDING}
        first = self._deliveries.find_one(pending, {"since": True}, sort=[("since", ASCENDING)])
        return 0.0 if first is None else max(0.0, (now() - first["since"]).total_seconds())

    def _end(
        self, delivery: Delivery, status: DeliveryStatus, attempt: Attempt | None, keep: timedelta
    ) -> None:
        ended = {"status": status, "expires_at": now() + keep}
        tried = {} if attempt is None else {"last_attempt": attempt, "attempts": delivery["attempts"] + 1}
        self._deliveries.update_one(_unchanged(delivery), {"$set": ended | tried})


def new_delivery(webhook: Webhook, event: OutboxEvent, body: str) -> Delivery:
    """Return the pending delivery of an event to a webhook."""
    at, delivery_id = now(), new_delivery_id()
    return {
        "_id": delivery_id,
        "webhook_id": webhook["_id"],
        "queue": delivery_id if event["type"] == TEST else event["object"],
        "body": body,
        "status": DeliveryStatus.PENDING,
        "attempts": 0,
        "next_attempt_at": at,
        "since": at,
        "last_attempt": None,
        "created_at": at,
        "type": event["type"],
        "object": event["object"],
        "model": event["model"],
        "namespace": event["namespace"],
        "at": event["at"],
        "data": event["data"],
        "order": event["order"],
    }


def _unchanged(delivery: Delivery) -> Fields:
    return {"_id": delivery["_id"], **_PENDING, "attempts": delivery["attempts"]}
