"""``model-service models``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.options import json_object
from model_service.cli.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.tables import Listing, Record, size
from model_service.client import Model

app = typer.Typer(help="Registered models and their files.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(metavar="MODEL_ID", help="The model's id.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; repeat for several.")]
JsonObject = Annotated[str | None, typer.Option(metavar="JSON", help="An object, or @FILE.")]
Framework = Annotated[str | None, typer.Option(metavar="NAME", help="pytorch, for example.")]
TaskType = Annotated[str | None, typer.Option(metavar="NAME", help="image_classification, for example.")]
Status = Annotated[str | None, typer.Option(metavar="STATUS", help="active, deprecated or archived.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is, in your words.")]
CreatedBy = Annotated[str | None, typer.Option(metavar="NAME", help="Who made it.")]


@app.command()
def register(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name all its versions share.")],
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="cnn, for example.")],
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="v1.0, for example; chosen when missing.")
    ] = None,
    framework: Framework = None,
    task_type: TaskType = None,
    description: Description = None,
    metrics: JsonObject = None,
    hyperparameters: JsonObject = None,
    dataset_info: JsonObject = None,
    tag: Tag = None,
    status: Status = None,
    parent_model_id: Annotated[
        str | None, typer.Option(metavar="MODEL_ID", help="The model it was made from.")
    ] = None,
    created_by: CreatedBy = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Upload this file too.")] = None,
    as_json: Json = False,
) -> None:
    """Register a model, and upload its file with --file."""
    client = client_of(context)
    if file is not None:  # before anything is registered
        if not file.is_file():
            raise typer.BadParameter(f"There is no file {file}.", param_hint="--file")
        if file.stat().st_size == 0:
            raise typer.BadParameter(f"{file} is empty.", param_hint="--file")
    fields = {
        "name": name,
        "algorithm": algorithm,
        "version": version,
        "framework": framework,
        "task_type": task_type,
        "description": description,
        "metrics": json_object(metrics),
        "hyperparameters": json_object(hyperparameters),
        "dataset_info": json_object(dataset_info),
        "tags": tag,
        "status": status,
        "parent_model_id": parent_model_id,
        "created_by": created_by,
    }
    model_id = client.register_model(_given(fields))
    if file is not None:
        client.upload_model(model_id, file)
    _show(client.get_model(model_id), as_json)


@app.command()
def upload(
    context: typer.Context,
    model_id: ModelId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt2 file, for example.")],
    as_json: Json = False,
) -> None:
    """Upload a model's file."""
    client = client_of(context)
    with file.open("rb") as source:
        client.get_model(model_id)  # a wrong id is told before all the bytes were sent
        client.upload_model(model_id, source)
    _show(client.get_model(model_id), as_json)


@app.command("list")
def list_models(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The versions of this model.")] = None,
    algorithm: Annotated[str | None, typer.Option(metavar="ALGORITHM", help="cnn, for example.")] = None,
    framework: Framework = None,
    task_type: TaskType = None,
    status: Status = None,
    tag: Tag = None,
    created_by: CreatedBy = None,
    min_accuracy: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="At least this accuracy, 0 to 1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List models, newest first."""
    found = client_of(context).list_models(
        page=page,
        limit=limit,
        name=name,
        algorithm=algorithm,
        framework=framework,
        task_type=task_type,
        status=status,
        tags=tag,
        created_by=created_by,
        min_accuracy=min_accuracy,
    )
    rows = (
        (
            model.id,
            model.name,
            model.version,
            model.algorithm,
            model.framework,
            model.status,
            size(model.file_metadata.size_bytes) if model.file_metadata else "no file",
            model.created_at,
        )
        for model in found
    )
    columns = ("id", "name", "version", "algorithm", "framework", "status", "size", "created (UTC)")
    shown = Listing(columns, rows, spare=("framework", "algorithm", "created (UTC)", "size"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def get(context: typer.Context, model_id: ModelId, as_json: Json = False) -> None:
    """Show one model."""
    _show(client_of(context).get_model(model_id), as_json)


@app.command()
def update(
    context: typer.Context,
    model_id: ModelId,
    description: Description = None,
    status: Status = None,
    metrics: JsonObject = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Change fields of a model; --tag replaces all its tags."""
    fields = {"description": description, "status": status, "metrics": json_object(metrics), "tags": tag}
    changes = _given(fields)
    if not changes:
        raise typer.BadParameter("nothing to change: give --description, --status, --metrics or --tag")
    _show(client_of(context).update_model(model_id, **changes), as_json)


@app.command()
def download(
    context: typer.Context,
    model_id: ModelId,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write.")],
    as_json: Json = False,
) -> None:
    """Download a model's file and verify its checksum."""
    client = client_of(context)
    model = client.get_model(model_id)
    written = client.download_model(model_id, output)
    emit(model.raw, as_json, f"{written}  {size(written.stat().st_size)}, checksum verified")


@app.command()
def delete(context: typer.Context, model_id: ModelId, as_json: Json = False) -> None:
    """Delete a model and its files."""
    emit(client_of(context).delete_model(model_id), as_json, f"Deleted {model_id}.")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Only what was said on the command line: the rest is the service's to choose, or to leave alone."""
    return {name: value for name, value in fields.items() if value is not None}


def _show(model: Model, as_json: bool) -> None:
    file = model.file_metadata
    shown = {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "algorithm": model.algorithm,
        "framework": model.framework,
        "task": model.task_type,
        "status": model.status,
        "description": model.description,
        "tags": model.tags,
        "metrics": model.metrics,
        "hyperparameters": model.hyperparameters,
        "dataset": model.dataset_info,
        "parent": model.parent_model_id,
        "file": f"{file.filename}, {size(file.size_bytes)}" if file else "none yet",
        "checksum": file and file.checksum,
        "downloads": model.download_count,
        "created by": model.created_by,
        "created (UTC)": model.created_at,
    }
    emit(model.raw, as_json, Record(shown))
