"""``model-service datasets``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.common.options import Output, given, json_object
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record, size
from model_service.cli.files.files import deleted_listing
from model_service.cli.files.uploading import Confirm, Replace, agreed
from model_service.client import Dataset, FileMetadata

app = typer.Typer(help="Datasets and their files.", no_args_is_help=True)

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="An id, NAME/v1.2 or NAME/latest.")]
PathInside = Annotated[
    str | None,
    typer.Option("--path", metavar="PATH", help="The path of one file, in a dataset with several files."),
]
Purpose = Annotated[
    str | None, typer.Option(metavar="PURPOSE", help="training, validation, test or calibration.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="npz, csv, parquet, images, jsonl, coco, yolo or other."),
]
TaskType = Annotated[str | None, typer.Option(metavar="NAME", help="image_classification, for example.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="A description of the dataset.")]
Samples = Annotated[int | None, typer.Option(metavar="N", min=0, help="The number of samples.")]
JsonObject = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object, or @FILE.")]
Source = Annotated[str | None, typer.Option(metavar="TEXT", help="The origin of the data.")]
License = Annotated[str | None, typer.Option("--license", metavar="NAME", help="CC-BY-4.0, for example.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; repeat it for several.")]
CreatedBy = Annotated[str | None, typer.Option(metavar="NAME", help="The author.")]


@app.command()
def register(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the dataset, which all its versions share.")
    ],
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="The version, for example v1.0; by default the next one."),
    ] = None,
    purpose: Purpose = None,
    format_: Format = None,
    task_type: TaskType = None,
    description: Description = None,
    num_samples: Samples = None,
    schema: JsonObject = None,
    statistics: JsonObject = None,
    source: Source = None,
    license_: License = None,
    tag: Tag = None,
    created_by: CreatedBy = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Also upload this file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a dataset, and upload its file with --file."""
    client = client_of(context)
    if file is not None and file.stat().st_size == 0:  # before anything is registered
        raise typer.BadParameter(f"{file} is empty.", param_hint="--file")
    fields = {
        "version": version,
        "purpose": purpose,
        "format": format_,
        "task_type": task_type,
        "description": description,
        "num_samples": num_samples,
        "schema": json_object(schema),
        "statistics": json_object(statistics),
        "source": source,
        "license": license_,
        "tags": tag,
        "created_by": created_by,
    }
    dataset = client.register_dataset(name, **given(fields))
    if file is not None:
        agreed(lambda _: client.upload_dataset(dataset.id, file), None)
        dataset = client.get_dataset(dataset.id)
    _show(dataset, as_json)


@app.command()
def upload(
    context: typer.Context,
    dataset_id: DatasetId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to upload, for example a .npz file.")
    ],
    path: PathInside = None,
    replace: Replace = False,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Upload a dataset's file, or with --path one of its files. To change a file, use --replace."""
    client = client_of(context)
    with file.open("rb"):
        dataset = client.get_dataset(dataset_id)  # reports a wrong id before the bytes are sent

    def send(names: list[str]) -> FileMetadata:
        if path is None:
            return client.upload_dataset(dataset.id, file, replace=replace, confirm=names)
        return client.upload_dataset_file(dataset.id, file, path=path, replace=replace, confirm=names)

    if agreed(send, confirm).unchanged:
        typer.echo(f"{dataset.name} {dataset.version} already has this file: nothing was sent.", err=True)
    _show(client.get_dataset(dataset.id), as_json)


@app.command("list")
def list_datasets(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only versions of this dataset.")] = None,
    purpose: Purpose = None,
    format_: Format = None,
    task_type: TaskType = None,
    tag: Tag = None,
    created_by: CreatedBy = None,
    as_json: Json = False,
) -> None:
    """List datasets, newest first."""
    found = client_of(context).list_datasets(
        page=page,
        limit=limit,
        name=name,
        purpose=purpose,
        format=format_,
        task_type=task_type,
        tags=tag,
        created_by=created_by,
    )
    rows = (
        (
            dataset.id,
            dataset.name,
            dataset.version,
            dataset.purpose,
            dataset.format,
            dataset.num_samples,
            size(dataset.size_bytes) if dataset.files else "no file",
            dataset.created_at,
        )
        for dataset in found
    )
    columns = ("id", "name", "version", "purpose", "format", "samples", "size", "created (UTC)")
    shown = Listing(columns, rows, spare=("format", "samples", "created (UTC)", "size"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def get(context: typer.Context, dataset_id: DatasetId, as_json: Json = False) -> None:
    """Show one dataset."""
    _show(client_of(context).get_dataset(dataset_id), as_json)


@app.command()
def update(
    context: typer.Context,
    dataset_id: DatasetId,
    purpose: Purpose = None,
    description: Description = None,
    num_samples: Samples = None,
    schema: JsonObject = None,
    statistics: JsonObject = None,
    source: Source = None,
    license_: License = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Change fields of a dataset; --tag replaces all its tags."""
    fields = {
        "purpose": purpose,
        "description": description,
        "num_samples": num_samples,
        "schema": json_object(schema),
        "statistics": json_object(statistics),
        "source": source,
        "license": license_,
        "tags": tag,
    }
    changes = given(fields)
    if not changes:
        raise typer.BadParameter("nothing to change: give --description or another field")
    _show(client_of(context).update_dataset(dataset_id, **changes), as_json)


@app.command()
def files(context: typer.Context, dataset_id: DatasetId, as_json: Json = False) -> None:
    """List a dataset's files."""
    dataset = client_of(context).get_dataset(dataset_id)
    rows = ((file.path, size(file.size_bytes), file.checksum) for file in dataset.files)
    emit({"files": list(dataset.raw["files"])}, as_json, Listing(("path", "size", "checksum"), rows))


@app.command("deleted-files")
def list_deleted_files(
    context: typer.Context,
    dataset_id: DatasetId,
    page: PageNumber = 1,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """List a dataset's replaced and deleted files, which can be restored, newest first."""
    found = client_of(context).list_deleted_dataset_files(dataset_id, page=page, limit=limit)
    emit(found.raw, as_json, deleted_listing(found), footer(found))


@app.command("restore-file")
def restore_file(
    context: typer.Context,
    dataset_id: DatasetId,
    file_id: Annotated[
        str, typer.Argument(metavar="FILE_ID", help="The file's id, as `deleted-files` shows it.")
    ],
    replace: Replace = False,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Restore a replaced or deleted file to its path."""
    client = client_of(context)
    file = agreed(
        lambda names: client.restore_dataset_file(dataset_id, file_id, replace=replace, confirm=names),
        confirm,
    )
    emit(file.raw, as_json, f"{file.path}  {size(file.size_bytes)}, restored")


@app.command()
def download(
    context: typer.Context,
    dataset_id: DatasetId,
    output: Output = Path(),
    path: PathInside = None,
    as_json: Json = False,
) -> None:
    """Download a dataset's file, or with --path one of its files, and verify its checksum."""
    client = client_of(context)
    dataset = client.get_dataset(dataset_id)
    written = client.download_dataset(dataset.id, output, path=path)
    emit(dataset.raw, as_json, f"{written}  {size(written.stat().st_size)}, checksum verified")


@app.command()
def usage(context: typer.Context, dataset_id: DatasetId, as_json: Json = False) -> None:
    """Show the training jobs that used a dataset, and the models made from it."""
    found = client_of(context).dataset_usage(dataset_id)
    rows = [
        *(
            ("training job", job["id"], job["name"], ", ".join(job["roles"]))
            for job in found["training_jobs"]
        ),
        *(("model", model["id"], model["name"], model["version"]) for model in found["models"]),
    ]
    more = "There are more, older entries." if found["truncated"] else f"{len(rows)} in all."
    emit(found, as_json, Listing(("kind", "id", "name", "role or version"), rows), more)


@app.command()
def delete(context: typer.Context, dataset_id: DatasetId, as_json: Json = False) -> None:
    """Delete a dataset that no model and no training job uses, and its files."""
    emit(client_of(context).delete_dataset(dataset_id), as_json, f"Deleted {dataset_id}.")


def _show(dataset: Dataset, as_json: bool) -> None:
    file = dataset.file_metadata
    shown = {
        "id": dataset.id,
        "name": dataset.name,
        "version": dataset.version,
        "purpose": dataset.purpose,
        "format": dataset.format,
        "task": dataset.task_type,
        "samples": dataset.num_samples,
        "description": dataset.description,
        "tags": dataset.tags,
        "schema": dataset.schema,
        "statistics": dataset.statistics,
        "source": dataset.source,
        "license": dataset.license,
        "file": f"{file.filename}, {size(file.size_bytes)}" if file else None,
        "files": f"{len(dataset.files)}, {size(dataset.size_bytes)}" if dataset.files else "none yet",
        "checksum": file and file.checksum,
        **_summary(dataset),
        "created by": dataset.created_by,
        "created (UTC)": dataset.created_at,
    }
    emit(dataset.raw, as_json, Record(shown))


def _summary(dataset: Dataset) -> dict[str, object]:
    """Return the lines about the content of the data file."""
    found = dataset.summary
    if found is None:
        return {}
    counts = found.get("class_counts") or {}
    return {
        "inspection": f"{found['status']}: {found['error']}" if found.get("error") else found["status"],
        "rows": found.get("num_samples"),
        "inputs": "\n".join(map(_tensor, found.get("inputs") or ())),
        "label": _tensor(found["label"]) if found.get("label") else None,
        "classes": ", ".join(f"{name} ({count})" for name, count in counts.items()),
        "warnings": "\n".join(found.get("warnings") or ()),
    }


def _tensor(tensor: dict[str, Any]) -> str:
    shape = ", ".join(map(str, tensor.get("shape") or ()))
    return f"{tensor.get('name')}  {tensor.get('dtype')}[{shape}]"
