"""``model-service models files``."""

from collections.abc import Sized
from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.common.options import ModelId, Output
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, size
from model_service.cli.files.uploading import Confirm, Replace, agreed, stored
from model_service.client import DeletedFile, FileMetadata, Page

app = typer.Typer(help="The files of a model.", no_args_is_help=True)

InModel = Annotated[str, typer.Argument(metavar="PATH", help="The path of the file in the model.")]


@app.command("list")
def list_files(context: typer.Context, model_id: ModelId, as_json: Json = False) -> None:
    """List a model's files by path."""
    files = client_of(context).list_files(model_id)
    rows = (
        (file.path, size(file.size_bytes), _verdict(file), file.checksum, file.content_type) for file in files
    )
    shown = Listing(("path", "size", "scan", "checksum", "type"), rows, spare=("type", "checksum"))
    total = size(sum(file.size_bytes for file in files))
    emit({"files": [dict(file.raw) for file in files]}, as_json, shown, f"{_count(files)}, {total}.")


@app.command()
def put(
    context: typer.Context,
    model_id: ModelId,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file, or a folder with files.")],
    path: Annotated[
        str | None, typer.Option(metavar="PATH", help="The path in the model; by default the file's name.")
    ] = None,
    primary: Annotated[
        bool, typer.Option("--primary", help="Make it the primary file, which `models download` returns.")
    ] = False,
    replace: Replace = False,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Upload a file to a path, or all files of a folder. Stored files are not sent again."""
    found = {path or source.name: source}
    if source.is_dir():
        if primary:
            raise typer.BadParameter(
                "only a single file can be the primary file, not a folder", param_hint="--primary"
            )
        under = f"{path.rstrip('/')}/" if path else ""
        inside = sorted(file for file in source.rglob("*") if file.is_file())
        found = {under + file.relative_to(source).as_posix(): file for file in inside}
    client = client_of(context)
    model = client.get_model(model_id)  # read once for all files, and reported before any byte is sent

    def send(names: list[str]) -> list[FileMetadata]:
        if primary:
            ((place, file),) = found.items()
            sent = client.upload_file(
                model.id, file, path=place, primary=True, replace=replace, confirm=names
            )
            return [sent]
        return client.upload_files(model.id, found, replace=replace, confirm=names)

    files = agreed(send, confirm)
    lines = [f"{file.path}  {size(file.size_bytes)}{stored(file.unchanged)}" for file in files]
    emit({"files": [dict(file.raw) for file in files]}, as_json, *lines)


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
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to write the files to.")],
    as_json: Json = False,
) -> None:
    """Download all files into a folder. Files that already exist there are not changed."""
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
    """Download all files as one zip, and verify it."""
    written = client_of(context).download_zip(model_id, output)
    size_bytes = written.stat().st_size
    report = {"path": str(written), "size_bytes": size_bytes}
    emit(report, as_json, f"{written}  {size(size_bytes)}, verified")


@app.command()
def delete(
    context: typer.Context,
    model_id: ModelId,
    path: InModel,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Move a file of a model to the trash."""
    client = client_of(context)
    deleted = agreed(lambda names: client.delete_file(model_id, path, confirm=names), confirm)
    emit(deleted, as_json, f"Deleted {deleted['path']}.")
    if not as_json:
        typer.echo(
            f"`model-service models files deleted {model_id}` lists it, so that it can be restored.", err=True
        )


@app.command("deleted")
def list_deleted(
    context: typer.Context,
    model_id: ModelId,
    page: PageNumber = 1,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """List a model's replaced and deleted files, which can be restored, newest first."""
    found = client_of(context).list_deleted_files(model_id, page=page, limit=limit)
    emit(found.raw, as_json, deleted_listing(found), footer(found))


@app.command()
def restore(
    context: typer.Context,
    model_id: ModelId,
    file_id: Annotated[str, typer.Argument(metavar="FILE_ID", help="The file's id, as `deleted` shows it.")],
    replace: Replace = False,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Restore a replaced or deleted file to its path."""
    client = client_of(context)
    file = agreed(
        lambda names: client.restore_file(model_id, file_id, replace=replace, confirm=names), confirm
    )
    emit(file.raw, as_json, f"{file.path}  {size(file.size_bytes)}, restored")


def deleted_listing(found: Page[DeletedFile]) -> Listing:
    rows = (
        (
            file.id,
            file.path,
            size(file.size_bytes),
            file.checksum,
            file.removed_by,
            file.removed_at,
            file.purged_after,
        )
        for file in found
    )
    columns = ("id", "path", "size", "checksum", "removed by", "removed (UTC)", "kept until (UTC)")
    return Listing(columns, rows, spare=("removed by", "removed (UTC)", "checksum"))


def _count(files: Sized) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _verdict(file: FileMetadata) -> str:
    """Return the scan's verdict: safe, unsafe or unknown; ``waiting`` until a worker has scanned the file."""
    return str((file.scan or {}).get("verdict", "waiting"))
