"""/api/v1/webhooks/{webhook_id}/deliveries, and a webhook's test."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.webhooks import (
    Delivery,
    DeliveryPage,
    DeliveryPath,
    DeliveryQuery,
    WebhookPath,
)

api = APIBlueprint(
    "webhook_deliveries", __name__, url_prefix="/api/v1/webhooks", abp_tags=[Tag(name="webhooks")]
)


@api.get("/<webhook_id>/deliveries", responses={200: DeliveryPage})
@policy(Caller.IDENTIFIED, rate="poll")
def list_deliveries(path: WebhookPath, query: DeliveryQuery) -> Response:
    """List the deliveries of a webhook.

    Newest first, with their status and the outcome of the last attempt, about objects that the caller may
    read. Ended deliveries are kept for WEBHOOK_KEEP_DAYS.
    """
    page = services().deliveries.page(
        path.webhook_id, query.status, query.event, query.page, page_limit(query)
    )
    deliveries = [Delivery.model_validate(item) for item in page.items]
    return answer(DeliveryPage(deliveries=deliveries, pagination=Pagination.of(page)))


@api.get("/<webhook_id>/deliveries/<delivery_id>", responses={200: Delivery})
@policy(Caller.IDENTIFIED, rate="poll")
def get_delivery(path: DeliveryPath) -> Response:
    """Read a delivery.

    Returns the event, its status, and the outcome of the last attempt.
    """
    return answer(Delivery.model_validate(services().deliveries.get(path.webhook_id, path.delivery_id)))


@api.post("/<webhook_id>/deliveries/<delivery_id>/resend", responses={202: Delivery})
@policy(Caller.IDENTIFIED)
def resend_delivery(path: DeliveryPath) -> Response:
    """Send a delivery again.

    In any status, with the same id. A delivery that has ended is sent independently of the other events of
    its object. Ends the webhook's pause after failures.
    """
    return answer(
        Delivery.model_validate(services().deliveries.send_again(path.webhook_id, path.delivery_id)), 202
    )


@api.post("/<webhook_id>/test", responses={202: Delivery})
@policy(Caller.IDENTIFIED)
def test_webhook(path: WebhookPath) -> Response:
    """Test a webhook.

    Creates the delivery of a `webhook.test` event, whatever the filters; read it to see the outcome. Ends the
    webhook's pause after failures.
    """
    return answer(Delivery.model_validate(services().deliveries.test(path.webhook_id)), 202)
