"""``model-service models``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.common.options import JsonObject, ModelId, Output, given, json_object
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Record, size
from model_service.cli.files.uploading import Confirm, Replace, agreed
from model_service.client import ClientError, Model

app = typer.Typer(help="Registered models and their files.", no_args_is_help=True)

Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; repeat it for several.")]
Framework = Annotated[str | None, typer.Option(metavar="NAME", help="pytorch, for example.")]
TaskType = Annotated[str | None, typer.Option(metavar="NAME", help="image_classification, for example.")]
Status = Annotated[str | None, typer.Option(metavar="STATUS", help="active, deprecated or archived.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="A description of the model.")]
CreatedBy = Annotated[str | None, typer.Option(metavar="NAME", help="The author.")]
Version = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="The version, for example v1.0; by default the next one."),
]
Breaking = Annotated[
    bool,
    typer.Option("--breaking-changes", help="Choose the next major version instead of the next minor one."),
]
TrainingJob = Annotated[
    str | None, typer.Option(metavar="JOB_ID", help="The training job that produced the model.")
]
Dataset = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset", metavar="DATASET", help="A dataset that the model was made from; repeat it for several."
    ),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="A key for this request: a repetition within a day registers nothing new."
    ),
]


@app.command()
def register(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the model, which all its versions share.")
    ],
    algorithm: Annotated[
        str | None,
        typer.Argument(
            metavar="[ALGORITHM]", help="The algorithm, for example cnn; by default the framework."
        ),
    ] = None,
    version: Version = None,
    breaking_changes: Breaking = False,
    framework: Framework = None,
    task_type: TaskType = None,
    description: Description = None,
    metrics: JsonObject = None,
    hyperparameters: JsonObject = None,
    dataset_info: JsonObject = None,
    signature: JsonObject = None,
    tag: Tag = None,
    status: Status = None,
    parent_model_id: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model that this one was made from."),
    ] = None,
    training_job_id: TrainingJob = None,
    dataset: Dataset = None,
    created_by: CreatedBy = None,
    idempotency_key: IdempotencyKey = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Also upload this file.")] = None,
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
        "algorithm": algorithm or framework or "unspecified",
        "version": version,
        "breaking_changes": breaking_changes or None,
        "framework": framework,
        "task_type": task_type,
        "description": description,
        "metrics": json_object(metrics),
        "hyperparameters": json_object(hyperparameters),
        "dataset_info": json_object(dataset_info),
        "signature": json_object(signature),
        "tags": tag,
        "status": status,
        "parent_model_id": parent_model_id,
        "training_job_id": training_job_id,
        "dataset_ids": dataset,
        "created_by": created_by,
    }
    model_id = client.register_model(given(fields), idempotency_key=idempotency_key)
    if file is not None:
        try:
            agreed(lambda _: client.upload_model(model_id, file), None)
        except ClientError as exc:
            exc.add_note(
                f"The model was registered as {model_id}, but its file was not uploaded. "
                f"Upload it with `model-service models upload {model_id} {file}`."
            )
            raise
    show_model(client.get_model(model_id), as_json)


@app.command("new-version")
def new_version(
    context: typer.Context,
    model_id: ModelId,
    version: Version = None,
    breaking_changes: Breaking = False,
    copy_files: Annotated[bool, typer.Option("--copy-files", help="Copy the files too.")] = False,
    description: Description = None,
    metrics: JsonObject = None,
    hyperparameters: JsonObject = None,
    tag: Tag = None,
    training_job_id: TrainingJob = None,
    dataset: Dataset = None,
    created_by: CreatedBy = None,
    idempotency_key: IdempotencyKey = None,
    as_json: Json = False,
) -> None:
    """Create a version from another one: the same fields, except for those given as options."""
    changes = {
        "version": version,
        "description": description,
        "metrics": json_object(metrics),
        "hyperparameters": json_object(hyperparameters),
        "tags": tag,
        "training_job_id": training_job_id,
        "dataset_ids": dataset,
        "created_by": created_by,
    }
    client = client_of(context)
    made = client.new_version(
        model_id,
        copy_files=copy_files,
        breaking_changes=breaking_changes,
        idempotency_key=idempotency_key,
        **given(changes),
    )
    show_model(client.get_model(made), as_json)


@app.command()
def upload(
    context: typer.Context,
    model_id: ModelId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to upload, for example a .pt2 file.")
    ],
    replace: Replace = False,
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Upload a model's file. The same file is not sent again; to change a file, use --replace."""
    client = client_of(context)
    with file.open("rb"):
        model = client.get_model(model_id)  # reports a wrong id before the bytes are sent
    sent = agreed(lambda names: client.upload_model(model.id, file, replace=replace, confirm=names), confirm)
    if sent.unchanged:
        typer.echo(f"{model.name} {model.version} already has this file: nothing was sent.", err=True)
    show_model(client.get_model(model.id), as_json)


@app.command("show", hidden=True)
@app.command()
def get(context: typer.Context, model_id: ModelId, as_json: Json = False) -> None:
    """Show one model."""
    show_model(client_of(context).get_model(model_id), as_json)


@app.command()
def update(
    context: typer.Context,
    model_id: ModelId,
    description: Description = None,
    status: Status = None,
    algorithm: Annotated[str | None, typer.Option(metavar="ALGORITHM", help="cnn, for example.")] = None,
    framework: Framework = None,
    task_type: TaskType = None,
    metrics: JsonObject = None,
    hyperparameters: JsonObject = None,
    dataset_info: JsonObject = None,
    signature: JsonObject = None,
    tag: Tag = None,
    training_job_id: TrainingJob = None,
    dataset: Dataset = None,
    revision: Annotated[
        int | None,
        typer.Option(metavar="N", help="Change it only if this is still its revision, as `get` shows it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change fields of a model. Each field is replaced as a whole: --tag replaces all tags."""
    fields = {
        "description": description,
        "status": status,
        "algorithm": algorithm,
        "framework": framework,
        "task_type": task_type,
        "metrics": json_object(metrics),
        "hyperparameters": json_object(hyperparameters),
        "dataset_info": json_object(dataset_info),
        "signature": json_object(signature),
        "tags": tag,
        "training_job_id": training_job_id,
        "dataset_ids": dataset,
    }
    changes = given(fields)
    if not changes:
        raise typer.BadParameter("nothing to change: give --description, --status or another field")
    show_model(client_of(context).update_model(model_id, revision=revision, **changes), as_json)


@app.command()
def download(
    context: typer.Context,
    model_id: ModelId,
    output: Output = Path(),
    as_json: Json = False,
) -> None:
    """Download a model's file and verify its checksum."""
    client = client_of(context)
    model = client.get_model(model_id)
    written = client.download_model(model.id, output)
    emit(model.raw, as_json, f"{written}  {size(written.stat().st_size)}, checksum verified")


@app.command()
def presign(
    context: typer.Context,
    model_id: ModelId,
    path: Annotated[
        str | None, typer.Option(metavar="PATH", help="The path of the file; by default the primary file.")
    ] = None,
    expires: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="How long the URL is valid; at most seven days.")
    ] = 3600,
    as_json: Json = False,
) -> None:
    """Print a signed URL: anyone who has it can download the file until it expires."""
    url = client_of(context).presign_file(model_id, path, expires_in_s=expires)
    emit({"url": url}, as_json, url)


@app.command()
def delete(
    context: typer.Context,
    model_id: ModelId,
    purge: Annotated[bool, typer.Option("--purge", help="Delete permanently, also from the trash.")] = False,
    as_json: Json = False,
) -> None:
    """Move a model and its files to the trash."""
    deleted = client_of(context).delete_model(model_id, purge=purge)
    deleted_id = deleted["deleted_id"]
    emit(deleted, as_json, f"Deleted {deleted_id}.")
    if not purge:
        typer.echo(f"`model-service models restore {deleted_id}` restores it.", err=True)


def show_model(model: Model, as_json: bool) -> None:
    file = model.file_metadata
    shown = {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "aliases": model.aliases,
        "algorithm": model.algorithm,
        "framework": model.framework,
        "task": model.task_type,
        "status": model.status,
        "description": model.description,
        "tags": model.tags,
        "metrics": model.metrics,
        "hyperparameters": model.hyperparameters,
        "dataset": model.dataset_info,
        "signature": model.signature,
        "parent": model.parent_model_id,
        "training job": model.training_job_id,
        "datasets": model.dataset_ids,
        "evaluations": "\n".join(map(_evaluated, model.evaluations)),
        "file": f"{file.filename}, {size(file.size_bytes)}" if file else "none yet",
        "checksum": file and file.checksum,
        "files": f"{len(model.files)}, {size(model.size_bytes)}" if len(model.files) > 1 else None,
        "downloads": model.download_count,
        "revision": model.revision,
        "created by": model.created_by,
        "created (UTC)": model.created_at,
    }
    emit(model.raw, as_json, Record(shown))


def _evaluated(shown: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in shown["metrics"].items())
    return f"{shown['dataset_name']} {shown['dataset_version']}  {values}"
