"""Delivers events to webhooks: a thread of every worker, and one thread for each webhook that it serves.

One worker at a time has the lease of a webhook, so its events stay in order. A receiver that is slow or away
only delays its own events.
"""

import random
import threading
import time
from datetime import timedelta
from http.client import HTTPException

import structlog
from standardwebhooks import Webhook as Signature

from model_service import __version__
from model_service.actor import ANONYMOUS, SERVICE, Actor, Permission
from model_service.config import Settings
from model_service.metrics import WEBHOOK_DELIVERIES
from model_service.outgoing import Refused, Response, TooLate, post
from model_service.storage.common.db import CONNECTION_ERRORS, now
from model_service.storage.common.documents import NewEvent
from model_service.storage.common.leases import HeldLease
from model_service.storage.common.outbox import TEST, body_of
from model_service.storage.stores import Stores
from model_service.storage.webhooks.documents import Attempt, Delivery, Webhook

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5
_THREADS = 16
_THREADS_OF_AN_OWNER = 4
_TURN_S = 10.0
_BATCH = 50
_PERMISSIONS_S = 1.0
_STOP_S = 2.0
_GIVE_UP_S = 60.0  # interval at which events of inactive webhooks are given up
_LONGEST_PAUSE_S = 3600.0
# Failures in a row, of different objects, after which a receiver is left alone for a while.
_MOST_FAILURES = 5


class WebhookDelivery:
    """Distributes the events of the outbox, and sends them."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._keep = timedelta(days=settings.webhook_keep_days)
        self._threads: dict[str, threading.Thread] = {}  # by the webhook that they serve
        self._owners: dict[str, str] = {}  # of these webhooks
        self._given_up_at = float("-inf")
        self._makers: dict[str, tuple[float, Actor | None]] = {}
        self._last_turn: dict[str, float] = {}
        self._stopping = threading.Event()

    def run(self) -> None:
        """Distribute all events, and start a turn of each webhook that has deliveries."""
        stores, settings = self._stores, self._settings

        def body(event: NewEvent) -> str:
            return body_of(event, settings.public_url)

        self._makers = {}
        while stores.deliveries.distribute(stores.outbox, self._may_get, body):
            pass
        waiting = stores.deliveries.waiting()
        if gone := set(waiting) - stores.webhooks.existing(waiting):
            stores.deliveries.remove_of(gone)
        self._give_up_of_inactive(waiting)
        self._last_turn = {each: at for each, at in self._last_turn.items() if each in waiting}
        by_turn = sorted(
            stores.webhooks.open(waiting), key=lambda each: self._last_turn.get(each["_id"], 0.0)
        )
        for webhook in by_turn:
            self._start(webhook)

    def _start(self, webhook: Webhook) -> None:
        """Start the turn of a webhook, unless it has one or too many others have."""
        webhook_id, owner = webhook["_id"], webhook["owner"]
        if webhook_id in self._threads or len(self._threads) >= _THREADS or self._stopping.is_set():
            return
        if list(self._owners.values()).count(owner) < _THREADS_OF_AN_OWNER:
            thread = threading.Thread(target=self._serve, args=[webhook_id], daemon=True)
            self._threads[webhook_id], self._owners[webhook_id] = thread, owner
            thread.start()

    def _give_up_of_inactive(self, waiting: list[str]) -> None:
        if time.monotonic() - self._given_up_at > _GIVE_UP_S:
            self._given_up_at = time.monotonic()
            if inactive := self._stores.webhooks.inactive(waiting):
                self._stores.deliveries.give_up(inactive, self._settings.webhook_give_up_s, self._keep)

    def close(self) -> None:
        """Begin no delivery any more, and wait shortly for those under way, which may be cut off."""
        self._stopping.set()
        ends = time.monotonic() + _STOP_S
        for thread in list(self._threads.values()):
            thread.join(max(0.0, ends - time.monotonic()))

    def _serve(self, webhook_id: str) -> None:
        try:
            if self._stores.deliveries.due(webhook_id, 1):
                self._take_turn(webhook_id)
        except CONNECTION_ERRORS as exc:
            log.warning("webhook.database_away", webhook_id=webhook_id, error=str(exc))
        except Exception:
            log.exception("webhook.broken", webhook_id=webhook_id)
        finally:
            self._last_turn[webhook_id] = time.monotonic()
            del self._owners[webhook_id]
            del self._threads[webhook_id]

    def _take_turn(self, webhook_id: str) -> None:
        leases = self._stores.leases
        began = time.monotonic()
        lease = leases.acquire(f"webhook:{webhook_id}", 15 + 2 * self._settings.webhook_timeout_s)
        if lease is None:
            return
        try:
            turn = _Turn(self._stores, self._settings, lease, began)
            while due := self._stores.deliveries.due(webhook_id, _BATCH):
                if not self._deliver(webhook_id, due, turn):
                    return
        finally:
            leases.release(lease)

    def _deliver(self, webhook_id: str, due: list[Delivery], turn: "_Turn") -> bool:
        """Deliver in order. Returns whether the turn may go on."""
        failed: set[str] = set()
        for delivery in due:
            webhook = next(iter(self._stores.webhooks.open([webhook_id])), None)
            if webhook is None or self._stopping.is_set() or not turn.goes_on():
                return False
            if delivery["queue"] in failed:
                continue
            if not self._may_get(webhook, delivery):
                self._stores.deliveries.withhold(delivery, self._keep)
            elif not turn.deliver(webhook, delivery):
                failed.add(delivery["queue"])
        return True

    def _may_get(self, webhook: Webhook, event: NewEvent) -> bool:
        """Return whether the maker of the webhook may read the event's object now."""
        if webhook["maker"] in (f"user:{ANONYMOUS.name}", f"user:{SERVICE.name}"):
            return not self._settings.enable_auth
        who = self._maker(webhook["maker"])
        return who is not None and (event["type"] == TEST or who.may(Permission.READ, event["namespace"]))

    def _maker(self, name: str) -> Actor | None:
        """Return the actor with the permissions of at most a second ago."""
        until, who = self._makers.get(name, (0.0, None))
        began = time.monotonic()
        if began >= until:
            who = self._stores.makers.find(name)
            self._makers[name] = began + _PERMISSIONS_S, who
        return who


class _Turn:
    """One worker's deliveries to one webhook, under its lease."""

    def __init__(self, stores: Stores, settings: Settings, lease: HeldLease, began: float) -> None:
        """``began``: monotonic time before the lease was acquired."""
        self._stores = stores
        self._settings = settings
        self._lease = lease
        self._renewed = began
        self._ends = time.monotonic() + _TURN_S
        self._keep = timedelta(days=settings.webhook_keep_days)
        self._failures = 0
        self._ended = False

    def goes_on(self) -> bool:
        """Return whether another attempt may begin; renew the lease from time to time."""
        if self._ended or time.monotonic() >= self._ends:
            return False
        if time.monotonic() - self._renewed > self._lease.ttl_s / 10:
            began = time.monotonic()
            if not self._stores.leases.renew(self._lease):
                return False
            self._renewed = began
        return True

    def deliver(self, webhook: Webhook, delivery: Delivery) -> bool:
        """Make one attempt and store its outcome. Returns whether it succeeded."""
        response, error = None, None
        began, at = time.monotonic(), now()
        try:
            response = self._send(webhook, delivery)
            if not 200 <= response.status < 300:
                error = f"answered {response.status}"
                if 300 <= response.status < 400:
                    error += "; redirects are not followed"
        except TooLate:  # another worker may deliver by now
            self._ended = True
            return False
        except (Refused, OSError, HTTPException, ValueError) as exc:
            error = str(exc) or type(exc).__name__
        attempt: Attempt = {
            "at": at,
            "duration_ms": round((time.monotonic() - began) * 1000, 1),
            "status_code": None if response is None else response.status,
            "answer": None if response is None else response.text,
            "error": error,
        }
        WEBHOOK_DELIVERIES.labels("delivered" if error is None else "failed").inc()
        if error is None:
            self._stores.deliveries.delivered(delivery, attempt, self._keep)
            self._failures = 0
            if webhook["failures"]:
                self._stores.webhooks.resume(webhook["_id"])
            return True
        self._failures += 1
        retry_s = self._backoff(delivery["attempts"])
        give_up_s = self._settings.webhook_give_up_s
        self._stores.deliveries.failed(delivery, attempt, retry_s, give_up_s, self._keep)
        if response is None or self._failures >= _MOST_FAILURES:
            self._stores.webhooks.pause(webhook["_id"], self._backoff(webhook["failures"]))
            self._stores.deliveries.give_up([webhook["_id"]], give_up_s, self._keep)
            self._ended = True
        return False

    def _send(self, webhook: Webhook, delivery: Delivery) -> Response:
        at = now()
        signatures = [
            Signature(secret).sign(delivery["_id"], at, delivery["body"])
            for secret in self._stores.webhooks.secrets_of(webhook)
        ]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"model-service/{__version__}",
            "webhook-id": delivery["_id"],
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return post(
            webhook["url"],
            delivery["body"].encode(),
            headers,
            allowed=self._settings.webhook_networks,
            timeout_s=self._settings.webhook_timeout_s,
            latest=self._renewed + self._lease.ttl_s - self._settings.webhook_timeout_s,
        )

    def _backoff(self, failures: int) -> float:
        """Return the seconds until the next try: doubled after each failure, with jitter."""
        longest = min(_LONGEST_PAUSE_S, self._settings.webhook_retry_s * 2.0 ** min(failures, 30))
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads the load, no secret
