"""``model-service models files``."""

from collections.abc import Sized
from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.options import ModelId, Output
from model_service.cli.output import Json, client_of, emit
from model_service.cli.tables import Listing, size

app = typer.Typer(help="The files of a model, at paths.", no_args_is_help=True)

InModel = Annotated[str, typer.Argument(metavar="PATH", help="Where it is in the model.")]


@app.command("list")
def list_files(context: typer.Context, model_id: ModelId, as_json: Json = False) -> None:
    """List a model's files by path."""
    files = client_of(context).list_files(model_id)
    rows = ((file.path, size(file.size_bytes), file.checksum, file.content_type) for file in files)
    shown = Listing(("path", "size", "checksum", "type"), rows, spare=("type", "checksum"))
    total = size(sum(file.size_bytes for file in files))
    emit({"files": [dict(file.raw) for file in files]}, as_json, shown, f"{_count(files)}, {total}.")


@app.command()
def put(
    context: typer.Context,
    model_id: ModelId,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file, or a folder of them.")],
    path: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where to put it; by default under its own name.")
    ] = None,
    primary: Annotated[
        bool, typer.Option("--primary", help="Make it the file that `models download` gives.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store a file at a path, or every file of a folder; what is stored already is not stored again."""
    found = [(source, path or source.name)]
    if source.is_dir():
        if primary:
            raise typer.BadParameter("one file is the primary one, not a folder", param_hint="--primary")
        under = f"{path.rstrip('/')}/" if path else ""
        inside = sorted(file for file in source.rglob("*") if file.is_file())
        found = [(file, under + file.relative_to(source).as_posix()) for file in inside]
    client = client_of(context)
    model = client.get_model(model_id)  # for all of them, and told before any byte was sent
    stored = [client.upload_file(model.id, file, path=place, primary=primary) for file, place in found]
    lines = [f"{file.path}  {size(file.size_bytes)}" for file in stored]
    emit({"files": [dict(file.raw) for file in stored]}, as_json, *lines)


@app.command()
def get(
    context: typer.Context,
    model_id: ModelId,
    path: InModel,
    output: Output = Path(),
    as_json: Json = False,
) -> None:
    """Download one file and verify its checksum."""
    written = client_of(context).download_file(model_id, path, output)
    size_bytes = written.stat().st_size
    report = {"path": str(written), "size_bytes": size_bytes}
    emit(report, as_json, f"{written}  {size(size_bytes)}, checksum verified")


@app.command("get-all")
def get_all(
    context: typer.Context,
    model_id: ModelId,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them, at their paths.")],
    as_json: Json = False,
) -> None:
    """Download every file into a folder; one that is there already stays."""
    written = client_of(context).download_all(model_id, folder)
    report = {"paths": [str(path) for path in written]}
    emit(report, as_json, f"{folder}  {_count(written)}, checksums verified")


@app.command("zip")
def download_zip(
    context: typer.Context,
    model_id: ModelId,
    output: Output = Path(),
    as_json: Json = False,
) -> None:
    """Download every file as one zip, and verify it."""
    written = client_of(context).download_zip(model_id, output)
    size_bytes = written.stat().st_size
    report = {"path": str(written), "size_bytes": size_bytes}
    emit(report, as_json, f"{written}  {size(size_bytes)}, verified")


@app.command()
def delete(context: typer.Context, model_id: ModelId, path: InModel, as_json: Json = False) -> None:
    """Remove a file from a model, for good."""
    deleted = client_of(context).delete_file(model_id, path)
    emit(deleted, as_json, f"Deleted {deleted['path']}.")


def _count(files: Sized) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"
