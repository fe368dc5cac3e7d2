"""The deliveries of a webhook: listed, tested and sent again."""

from model_service.actor import Permission, actor
from model_service.config import Settings
from model_service.errors import Conflict, NotFound
from model_service.services.common.paging import Page
from model_service.services.webhooks.webhooks import WebhookService
from model_service.states import DeliveryStatus
from model_service.storage.common.outbox import TEST, body_of, test_event
from model_service.storage.stores import Stores
from model_service.storage.webhooks.deliveries import new_delivery
from model_service.storage.webhooks.documents import Delivery, Webhook


class DeliveryService:
    def __init__(self, settings: Settings, stores: Stores, webhooks: WebhookService) -> None:
        self._settings = settings
        self._database = stores.database
        self._deliveries = stores.deliveries
        self._stored = stores.webhooks
        self._webhooks = webhooks

    def page(
        self, webhook_id: str, status: DeliveryStatus | None, event: str | None, page: int, limit: int
    ) -> Page[Delivery]:
        """Return a webhook's deliveries about objects that the caller may read, newest first.

        Raises:
            NotFound: there is no such webhook, or it is not the caller's.
        """
        self._webhooks.get(webhook_id)
        query = {name: value for name, value in (("status", status), ("type", event)) if value is not None}
        namespaces = actor().readable_namespaces()
        skip = (page - 1) * limit
        items, total = self._deliveries.page(webhook_id, namespaces, query, skip, limit)
        return Page(items, page, limit, total)

    def get(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Return a delivery. Raises: NotFound: as ``page``; or there is no such delivery."""
        self._webhooks.get(webhook_id)
        found = self._deliveries.get(webhook_id, delivery_id)
        if found is None or not _readable(found):
            raise NotFound("delivery", delivery_id)
        return found

    def send_again(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Make a delivery due now, in any status; the webhook's pause ends.

        One that has ended does not wait for other deliveries, and none waits for it.

        Raises:
            NotFound: as ``get``. Conflict: the webhook is inactive.
        """
        wanted = self.get(webhook_id, delivery_id)["_id"]
        self._active(webhook_id)
        found = self._database.transaction(lambda session: self._deliveries.send_again(wanted, session))
        if found is None:
            raise NotFound("delivery", delivery_id)
        self._resume(webhook_id)
        return found

    def test(self, webhook_id: str) -> Delivery:
        """Create the delivery of a ``webhook.test`` event; the webhook's pause ends.

        Raises:
            NotFound: there is no such webhook, or it is not the caller's. Conflict: it is inactive.
        """
        webhook = self._active(webhook_id)
        event = test_event(webhook)
        delivery = new_delivery(webhook, event, body_of(event, self._settings.public_url))
        self._database.transaction(lambda session: self._deliveries.insert(delivery, session))
        self._resume(webhook_id)
        return delivery

    def _active(self, webhook_id: str) -> Webhook:
        webhook = self._webhooks.get(webhook_id)
        if not webhook["active"]:
            raise Conflict("The webhook is inactive: set 'active' to true first.", id=webhook_id)
        return webhook

    def _resume(self, webhook_id: str) -> None:
        self._stored.resume(webhook_id)
        self._deliveries.hurry(webhook_id)


def _readable(delivery: Delivery) -> bool:
    return delivery["type"] == TEST or actor().may(Permission.READ, delivery["namespace"])
