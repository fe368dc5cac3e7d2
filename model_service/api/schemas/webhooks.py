"""Webhooks and their deliveries."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, Field

from model_service.api.schemas.access import Namespace
from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    NotNull,
    Paged,
    Pagination,
    QualifiedName,
    Text,
)
from model_service.outgoing import MAX_URL, checked_url
from model_service.states import EVENT_TYPES, DeliveryStatus

TYPES = [f"{kind}.{each}" for kind, happened in EVENT_TYPES.items() for each in happened]
# What a filter may contain: each type, all types of a kind, and everything.
FILTERS = ["*", *(f"{kind}.*" for kind in EVENT_TYPES), *TYPES]


def _a_url(text: str) -> str:
    checked_url(text)
    return text


def _a_filter(text: str) -> str:
    if text not in FILTERS:
        raise ValueError(f"one of {', '.join(FILTERS)}")
    return text


Url = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL, json_schema_extra={"format": "uri"}),
    AfterValidator(_a_url),
]
Filter = Annotated[str, Field(json_schema_extra={"enum": FILTERS}), AfterValidator(_a_filter)]
Filters = Annotated[list[Filter], Field(min_length=1, max_length=len(FILTERS))]


class WebhookPath(BaseModel):
    webhook_id: str


class DeliveryPath(WebhookPath):
    delivery_id: str


class WebhookQuery(Paged):
    pass


class NewWebhook(Body):
    url: Url = Field(description="https, or http in WEBHOOK_ALLOWED_NETWORKS")
    description: Text | None = None
    events: Filters = Field(["*"], description="types such as export.failed, kinds such as export.*, or *")
    namespace: Namespace | None = Field(None, description="only events of models in this namespace")
    model: QualifiedName | None = Field(None, description="only events of this model")
    active: bool = True


class WebhookChanges(Body):
    """Fields that are not sent do not change."""

    url: Annotated[Url | None, NotNull] = None
    description: Text | None = None
    events: Annotated[Filters | None, NotNull] = None
    namespace: Namespace | None = None
    model: QualifiedName | None = None
    active: Annotated[bool | None, NotNull] = None


class SecretRotation(Body):
    grace_s: int = Field(
        86_400, ge=0, le=30 * 86_400, description="how long events are signed with the former secret too"
    )


class Webhook(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    url: str
    description: str | None
    events: list[str]
    namespace: str | None
    model: str | None
    active: bool
    owner: str
    failures: int = Field(description="pauses since the last delivery that succeeded")
    paused_until: datetime | None = Field(None, description="nothing is delivered before this time")
    created_at: datetime
    updated_at: datetime


class SecretWebhook(Webhook):
    """The webhook with its secret, which is shown only in this response."""

    secret: str


class WebhookPage(BaseModel):
    webhooks: list[Webhook]
    pagination: Pagination


class DeliveryQuery(Paged):
    status: DeliveryStatus | None = None
    event: Filter | None = Field(None, description="a type, such as export.failed")


class Attempt(BaseModel):
    at: datetime
    duration_ms: float
    status_code: int | None = Field(description="null: no response")
    answer: str | None = Field(description="the beginning of the response's body")
    error: str | None


class Delivery(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"), description="the header webhook-id")
    webhook_id: Id
    type: str
    object: str = Field(description="the kind and id of the object, whose events are delivered in order")
    data: JSONObject
    status: DeliveryStatus
    attempts: int
    last_attempt: Attempt | None
    next_attempt_at: datetime
    created_at: datetime


class DeliveryPage(BaseModel):
    deliveries: list[Delivery]
    pagination: Pagination
