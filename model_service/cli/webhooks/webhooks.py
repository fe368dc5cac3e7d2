"""``model-service webhooks``."""

from typing import Annotated, Any

import typer

from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.client import Delivery, Webhook

app = typer.Typer(help="Webhooks: addresses that receive events.", no_args_is_help=True)

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK_ID", help="As `webhooks list` shows it.")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY_ID", help="As `webhooks deliveries` shows it.")]
Event = Annotated[
    list[str] | None,
    typer.Option(
        "--event", metavar="EVENT", help="A type like export.failed, or a kind like 'export.*'. Repeat it."
    ),
]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only events of models in this namespace.")
]
ModelName = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only events of this model.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="Its purpose.")]


@app.command()
def create(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The address, with https.")],
    event: Event = None,
    namespace: Namespace = None,
    model: ModelName = None,
    description: Description = None,
    as_json: Json = False,
) -> None:
    """Create a webhook, by default for all events. Store its secret: it is shown only once."""
    webhook = client_of(context).create_webhook(
        url, event, namespace=namespace, model=model, description=description
    )
    _show_secret(webhook, as_json)


@app.command("list")
def list_webhooks(
    context: typer.Context, page: PageNumber = 1, limit: PageSize = None, as_json: Json = False
) -> None:
    """List webhooks, newest first."""
    found = client_of(context).list_webhooks(page=page, limit=limit)
    rows = ((each.id, each.url, ", ".join(each.events), each.owner, _state(each)) for each in found)
    shown = Listing(("id", "address", "events", "owner", "state"), rows, spare=("owner", "events"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def show(context: typer.Context, webhook_id: WebhookId, as_json: Json = False) -> None:
    """Show a webhook, without its secret."""
    webhook = client_of(context).get_webhook(webhook_id)
    emit(dict(webhook.raw), as_json, Record(_shown(webhook)))


@app.command()
def update(
    context: typer.Context,
    webhook_id: WebhookId,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Another address.")] = None,
    event: Event = None,
    namespace: Namespace = None,
    model: ModelName = None,
    description: Description = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether it gets events.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a webhook. Every change ends the pause after failures."""
    sent: dict[str, Any] = {
        **{"url": url, "events": event, "namespace": namespace},
        **{"model": model, "description": description, "active": active},
    }
    changes = {name: value for name, value in sent.items() if value is not None}
    webhook = client_of(context).update_webhook(webhook_id, **changes)
    emit(dict(webhook.raw), as_json, Record(_shown(webhook)))


@app.command()
def rotate(
    context: typer.Context,
    webhook_id: WebhookId,
    grace: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="How long the present secret signs too.")
    ] = 86_400,
    as_json: Json = False,
) -> None:
    """Replace the secret of a webhook. Store the new one: it is shown only once."""
    _show_secret(client_of(context).rotate_webhook(webhook_id, grace_s=grace), as_json)


@app.command()
def delete(context: typer.Context, webhook_id: WebhookId, as_json: Json = False) -> None:
    """Delete a webhook and its deliveries."""
    emit(client_of(context).delete_webhook(webhook_id), as_json, f"Deleted {webhook_id}.")


@app.command("test")
def send_test(context: typer.Context, webhook_id: WebhookId, as_json: Json = False) -> None:
    """Send a webhook.test event."""
    _show_delivery(client_of(context).test_webhook(webhook_id), as_json)


@app.command()
def deliveries(
    context: typer.Context,
    webhook_id: WebhookId,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="pending, delivered, dead_lettered or withheld."),
    ] = None,
    event: Annotated[str | None, typer.Option(metavar="EVENT", help="Only this type.")] = None,
    page: PageNumber = 1,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """List the deliveries of a webhook, newest first."""
    found = client_of(context).list_deliveries(webhook_id, status=status, event=event, page=page, limit=limit)
    rows = (
        (each.id, each.created_at, each.type, each.object, each.status, each.attempts, _outcome(each))
        for each in found
    )
    columns = ("id", "at (UTC)", "event", "object", "status", "attempts", "last attempt")
    spare = ("object", "at (UTC)", "last attempt")
    emit(found.raw, as_json, Listing(columns, rows, spare=spare), footer(found))


@app.command()
def resend(
    context: typer.Context, webhook_id: WebhookId, delivery_id: DeliveryId, as_json: Json = False
) -> None:
    """Send a delivery again, whatever its status."""
    _show_delivery(client_of(context).resend_delivery(webhook_id, delivery_id), as_json)


def _show_delivery(delivery: Delivery, as_json: bool) -> None:
    line = f"{delivery.id} is {delivery.status}: see `webhooks deliveries {delivery.webhook_id}`."
    emit(dict(delivery.raw), as_json, line)


def _show_secret(webhook: Webhook, as_json: bool) -> None:
    shown = _shown(webhook) | {"secret (shown once)": webhook.secret}
    emit(dict(webhook.raw), as_json, Record(shown))
    typer.echo("Store the secret now: it cannot be shown again.", err=True)


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "address": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "namespace": webhook.namespace,
        "model": webhook.model,
        "owner": webhook.owner,
        "state": _state(webhook),
    }


def _state(webhook: Webhook) -> str:
    if not webhook.active:
        return "inactive"
    if webhook.paused_until is not None:
        return f"paused until {webhook.paused_until:%Y-%m-%d %H:%M:%S} UTC"
    return "active"


def _outcome(delivery: Delivery) -> str:
    last = delivery.last_attempt
    if last is None:
        return ""
    return str(last["error"] or last["status_code"])
