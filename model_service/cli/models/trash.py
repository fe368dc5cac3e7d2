"""``model-service models deleted | restore``."""

from typing import Annotated

import typer

from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing
from model_service.cli.models.models import show_model


def restore(
    context: typer.Context,
    model_id: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model's id, as `deleted` shows it, or NAME/v1.2.")
    ],
    as_json: Json = False,
) -> None:
    """Restore a deleted model."""
    show_model(client_of(context).restore_model(model_id), as_json)


def deleted(
    context: typer.Context, page: PageNumber = 1, limit: PageSize = None, as_json: Json = False
) -> None:
    """List the trash, newest first."""
    found = client_of(context).list_deleted_models(page=page, limit=limit)
    rows = (
        (model.id, model.name, model.version, model.deleted_by, model.deleted_at, model.purged_after)
        for model in found
    )
    columns = ("id", "name", "version", "deleted by", "deleted (UTC)", "kept until (UTC)")
    shown = Listing(columns, rows, spare=("deleted by", "deleted (UTC)"))
    emit(found.raw, as_json, shown, footer(found))
