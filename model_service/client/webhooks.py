"""Calls on webhooks and their deliveries."""

from collections.abc import Sequence
from typing import Any

from model_service.client.calls import Calls
from model_service.client.records import Page
from model_service.client.transport.http import segment
from model_service.client.webhook_types import Delivery, Webhook

WEBHOOKS = "/api/v1/webhooks"


class WebhookCalls(Calls):
    def create_webhook(
        self,
        url: str,
        events: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        model: str | None = None,
        description: str | None = None,
        active: bool = True,
    ) -> Webhook:
        """Create a webhook. Its ``secret``, which verifies the events, is returned only here: store it.

        Args:
            url: https; http only in the networks of WEBHOOK_ALLOWED_NETWORKS.
            events: types such as ``export.failed``, or kinds such as ``export.*``; by default all.
            namespace, model: only events of models in this namespace, or of this model.

        Raises:
            InvalidRequest: the address is refused, or an event is unknown.
            Conflict: the caller has as many webhooks as the service allows.
        """
        data: dict[str, Any] = {"url": url, "active": active}
        optional = {"namespace": namespace, "model": model, "description": description}
        data |= {name: value for name, value in optional.items() if value is not None}
        if events is not None:
            data["events"] = list(events)
        return Webhook.from_json(self._transport.create(WEBHOOKS, data))

    def get_webhook(self, webhook_id: str) -> Webhook:
        return Webhook.from_json(self._transport.json("GET", _url(webhook_id)))

    def list_webhooks(self, *, page: int | None = None, limit: int | None = None) -> Page[Webhook]:
        """Return the caller's webhooks, newest first; an administrator gets those of all users."""
        return self._page(WEBHOOKS, "webhooks", Webhook, {"page": page, "limit": limit})

    def update_webhook(self, webhook_id: str, **changes: Any) -> Webhook:
        """Change fields: ``url``, ``description``, ``events``, ``namespace``, ``model``, ``active``.

        Every change ends the pause after failures.
        """
        return Webhook.from_json(self._transport.json("PATCH", _url(webhook_id), data=changes))

    def rotate_webhook(self, webhook_id: str, *, grace_s: int = 86_400) -> Webhook:
        """Replace the secret, which is returned only here; the old one signs for ``grace_s`` more seconds."""
        return Webhook.from_json(
            self._transport.json("POST", f"{_url(webhook_id)}/rotate", data={"grace_s": grace_s})
        )

    def delete_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Delete a webhook. NotFound may mean that an earlier try, whose response was lost, deleted it."""
        return self._transport.json("DELETE", _url(webhook_id))

    def test_webhook(self, webhook_id: str) -> Delivery:
        """Send a ``webhook.test`` event; ``get_delivery`` returns the outcome."""
        return Delivery.from_json(self._transport.json("POST", f"{_url(webhook_id)}/test"))

    def list_deliveries(
        self,
        webhook_id: str,
        *,
        status: str | None = None,
        event: str | None = None,
        page: int | None = None,
        limit: int | None = None,
    ) -> Page[Delivery]:
        """Return the deliveries of a webhook, newest first; ``event`` is a type."""
        query = {"status": status, "event": event, "page": page, "limit": limit}
        return self._page(f"{_url(webhook_id)}/deliveries", "deliveries", Delivery, query)

    def get_delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        return Delivery.from_json(self._transport.json("GET", _delivery_url(webhook_id, delivery_id)))

    def resend_delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a delivery again, whatever its status."""
        url = f"{_delivery_url(webhook_id, delivery_id)}/resend"
        return Delivery.from_json(self._transport.json("POST", url))


def _url(webhook_id: str) -> str:
    return f"{WEBHOOKS}/{segment(webhook_id)}"


def _delivery_url(webhook_id: str, delivery_id: str) -> str:
    return f"{_url(webhook_id)}/deliveries/{segment(delivery_id)}"
