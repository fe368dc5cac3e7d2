"""The documents of webhooks and of their deliveries."""

import uuid
from datetime import datetime
from typing import Annotated, NotRequired

from typing_extensions import TypedDict

from model_service.states import DeliveryStatus
from model_service.storage.common.documents import Event, one_of


class FormerSecret(TypedDict):
    """A replaced secret, which still signs until this time."""

    serial: int
    until: datetime


class Webhook(TypedDict):
    """Its secrets are derived from its id and a serial number, so no document contains one.

    ``maker`` is ``key:ID`` or ``user:NAME``, the credential that created it. ``failures`` counts the pauses
    since the last delivery, and ``paused_until`` is the end of the present one.
    """

    _id: str
    url: str
    description: str | None
    events: list[str]
    namespace: str | None
    model: str | None
    active: bool
    owner: str
    maker: str
    secret_serial: int
    former_secret: FormerSecret | None
    failures: int
    paused_until: NotRequired[datetime]
    created_at: datetime
    updated_at: datetime


class Attempt(TypedDict):
    """The outcome of an attempt. ``status_code`` and ``answer`` are None if no response arrived."""

    at: datetime
    duration_ms: float
    status_code: int | None
    answer: str | None
    error: str | None


class Delivery(Event):
    """An event for one webhook; ``_id`` is the message's id, the same in each attempt.

    ``queue``: pending deliveries with the same value are delivered one after the other, by ``order``. It is
    the event's object; for a test, and once it is sent again, the delivery itself. ``body``: the signed JSON.
    ``since``: the begin of the time after which it is given up. The database removes the delivery at
    ``expires_at``; a pending one has none.
    """

    _id: str
    webhook_id: str
    queue: str
    body: str
    status: Annotated[str, one_of(DeliveryStatus)]
    attempts: int
    created_at: datetime
    next_attempt_at: datetime
    since: datetime
    last_attempt: Attempt | None
    expires_at: NotRequired[datetime]


def new_delivery_id() -> str:
    return f"msg_{uuid.uuid4().hex}"
