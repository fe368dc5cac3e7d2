"""/api/v1/webhooks"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.webhooks import (
    NewWebhook,
    SecretRotation,
    SecretWebhook,
    Webhook,
    WebhookChanges,
    WebhookPage,
    WebhookPath,
    WebhookQuery,
)
from model_service.services.webhooks import webhooks as rules

api = APIBlueprint("webhooks", __name__, url_prefix="/api/v1/webhooks", abp_tags=[Tag(name="webhooks")])


def _with_secret(stored: Mapping[str, Any], secret: str) -> SecretWebhook:
    return SecretWebhook.model_validate({**stored, "secret": secret})


@api.post("", responses={201: SecretWebhook})
@policy(Caller.IDENTIFIED)
def create_webhook(body: NewWebhook) -> Response:
    """Create a webhook.

    The service sends a POST request to `url` for each event that the filters let pass and whose object the
    caller may read. The response contains the secret that signs the requests, which cannot be read again. The
    webhook gets the events of all changes that begin after this response. `Idempotency-Key` is supported and
    returns the same secret. 422 for an internal address, unless WEBHOOK_ALLOWED_NETWORKS contains it.
    """
    once = requested_once()
    fields = cast(rules.WebhookChanges, body.model_dump())
    stored, secret = services().webhooks.create(fields, once)
    return mark(answer(_with_secret(stored, secret), 201), once)


@api.get("", responses={200: WebhookPage})
@policy(Caller.IDENTIFIED)
def list_webhooks(query: WebhookQuery) -> Response:
    """List webhooks.

    The caller's webhooks, newest first, without their secrets. An administrator gets the webhooks of all
    users, an API key only its own.
    """
    page = services().webhooks.page(query.page, page_limit(query))
    webhooks = [Webhook.model_validate(item) for item in page.items]
    return answer(WebhookPage(webhooks=webhooks, pagination=Pagination.of(page)))


@api.get("/<webhook_id>", responses={200: Webhook})
@policy(Caller.IDENTIFIED)
def get_webhook(path: WebhookPath) -> Response:
    """Read a webhook.

    Returns its address, filters and state, without its secret.
    """
    return answer(Webhook.model_validate(services().webhooks.get(path.webhook_id)))


@api.patch("/<webhook_id>", responses={200: Webhook})
@policy(Caller.IDENTIFIED)
def update_webhook(path: WebhookPath, body: WebhookChanges) -> Response:
    """Change a webhook.

    Only the sent fields change. An inactive webhook gets no new events, and its pending deliveries wait until
    it is active again. Every change ends the pause after failures.
    """
    changes = cast(rules.WebhookChanges, body.model_dump(exclude_unset=True))
    return answer(Webhook.model_validate(services().webhooks.update(path.webhook_id, changes)))


@api.post("/<webhook_id>/rotate", responses={200: SecretWebhook})
@policy(Caller.IDENTIFIED)
def rotate_webhook(path: WebhookPath, body: SecretRotation) -> Response:
    """Replace the secret of a webhook.

    Returns the new secret once. For `grace_s` seconds (a day), requests have a signature with the former
    secret too.
    """
    stored, secret = services().webhooks.rotate(path.webhook_id, body.grace_s)
    return answer(_with_secret(stored, secret))


@api.delete("/<webhook_id>", responses={200: Deleted})
@policy(Caller.IDENTIFIED)
def delete_webhook(path: WebhookPath) -> Response:
    """Delete a webhook.

    Its deliveries are removed too, pending ones included.
    """
    services().webhooks.delete(path.webhook_id)
    return answer(Deleted(message="Webhook deleted successfully", deleted_id=path.webhook_id))
