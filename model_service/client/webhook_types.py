"""Records of webhooks and of their deliveries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from model_service.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Webhook(Record):
    """An address that receives events. ``secret`` is set only when it is created or rotated.

    ``events`` are types such as ``export.failed``, kinds such as ``export.*``, or ``*``. ``paused_until``:
    nothing is delivered before this time, after ``failures`` pauses in a row.
    """

    id: str
    url: str
    events: tuple[str, ...]
    description: str | None = None
    namespace: str | None = None
    model: str | None = None
    active: bool = True
    owner: str = ""
    failures: int = 0
    paused_until: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    secret: str | None = field(default=None, repr=False)

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "events": tuple,
        "paused_until": datetime.fromisoformat,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class Delivery(Record):
    """An event for a webhook. ``status`` is pending, delivered, dead_lettered or withheld.

    ``last_attempt`` has ``at``, ``duration_ms``, ``status_code``, ``answer`` and ``error``.
    """

    id: str
    webhook_id: str
    type: str
    object: str
    status: str
    attempts: int
    data: dict[str, Any] = field(default_factory=dict)
    last_attempt: dict[str, Any] | None = None
    next_attempt_at: datetime | None = None
    created_at: datetime | None = None

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "next_attempt_at": datetime.fromisoformat,
        "created_at": datetime.fromisoformat,
    }
