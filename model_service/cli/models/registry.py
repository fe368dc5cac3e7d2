"""``model-service registry``."""

from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import size

app = typer.Typer(help="Export and import the whole registry as one archive.", no_args_is_help=True)


@app.command("export")
def export_registry(
    context: typer.Context,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The archive to write.")],
    as_json: Json = False,
) -> None:
    """Write all models, datasets and training jobs with their files into an archive."""
    written = client_of(context).export_registry(output)
    size_bytes = written.stat().st_size
    emit({"path": str(written), "size_bytes": size_bytes}, as_json, f"{written}  {size(size_bytes)}")


@app.command("import")
def import_registry(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that `registry export` wrote.")],
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="POLICY",
            help="skip or fail: what to do if a version exists there as another model.",
        ),
    ] = "skip",
    as_json: Json = False,
) -> None:
    """Import an archive. Objects that already exist are not changed."""
    if on_conflict not in ("skip", "fail"):
        raise typer.BadParameter("skip or fail", param_hint="--on-conflict")
    imported = client_of(context).import_registry(file, on_conflict=on_conflict)
    counts = ", ".join(f"{count} {name}" for name, count in imported["inserted"].items() if count)
    skipped = imported["conflicts"]["count"]
    emit(
        imported,
        as_json,
        f"Imported: {counts or 'nothing new'}; {size(imported['bytes_stored'])} of files."
        + (f" {skipped} skipped, because their versions exist as other models here." if skipped else ""),
    )
