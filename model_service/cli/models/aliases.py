"""``model-service models alias``."""

from typing import Annotated

import typer

from model_service.cli.common.options import ModelId
from model_service.cli.common.output import Json, PageSize, client_of, emit
from model_service.cli.common.tables import Listing

app = typer.Typer(help="Aliases: movable labels for versions of a model.", no_args_is_help=True)

AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, for example production.")]


@app.command("set")
def set_alias(
    context: typer.Context,
    model_id: ModelId,
    alias: AliasName,
    comment: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The reason, for the history of the alias.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set an alias on a version. If another version of the model has it, the alias moves in one step."""
    given = client_of(context).set_alias(model_id, alias, comment=comment)
    emit(given.raw, as_json, f"{given.reference} is {given.name} {given.version}, {given.model_id}.")


@app.command()
def remove(context: typer.Context, model_id: ModelId, alias: AliasName, as_json: Json = False) -> None:
    """Remove an alias from a version."""
    removed = client_of(context).delete_alias(model_id, alias)
    emit(
        removed,
        as_json,
        f"{removed['name']} {removed['version']} no longer has the alias {removed['alias']}.",
    )


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


@app.command()
def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")],
    alias: AliasName,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """Show who moved an alias and why, with the changes of its gate and the approvals, newest first."""
    found = client_of(context).alias_history(name, alias, limit=limit)
    rows = (
        (f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor, each.action, each.version or "", each.comment or "")
        for each in found
    )
    shown = Listing(("at (UTC)", "by", "change", "version", "comment"), rows)
    emit({"name": name, "alias": alias, "events": [dict(each.raw) for each in found]}, as_json, shown)
