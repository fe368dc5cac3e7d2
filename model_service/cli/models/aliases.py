"""``model-service models alias``."""

from typing import Annotated

import typer

from model_service.cli.common.options import ModelId
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Listing

app = typer.Typer(help="Names that move from version to version.", no_args_is_help=True)

AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="production, for example.")]


@app.command("set")
def set_alias(context: typer.Context, model_id: ModelId, alias: AliasName, as_json: Json = False) -> None:
    """Give a version an alias; another version of its name that has it loses it in the same moment."""
    given = client_of(context).set_alias(model_id, alias)
    emit(given.raw, as_json, f"{given.reference} is {given.name} {given.version}, {given.model_id}.")


@app.command()
def remove(context: typer.Context, model_id: ModelId, alias: AliasName, as_json: Json = False) -> None:
    """Take an alias from a version."""
    removed = client_of(context).delete_alias(model_id, alias)
    emit(removed, as_json, f"{removed['name']} {removed['version']} is not {removed['alias']} any more.")


@app.command("list")
def list_aliases(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")],
    as_json: Json = False,
) -> None:
    """List the aliases of a name, those of its highest version first."""
    found = client_of(context).list_aliases(name)
    rows = ((each.model_id, each.alias, each.version, each.reference) for each in found)
    shown = Listing(("id", "alias", "version", "reference"), rows, spare=("reference",))
    emit({"name": name, "aliases": [dict(each.raw) for each in found]}, as_json, shown)
