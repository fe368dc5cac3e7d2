"""``model-service training``."""

from typing import Annotated

import typer

from model_service.cli.common.options import given, json_object
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.client import TrainingJob
from model_service.states import DatasetPurpose

app = typer.Typer(help="Training jobs: records of the runs that produced models.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The training job's id.")]
Status = Annotated[
    str | None, typer.Option(metavar="STATUS", help="pending, running, completed, failed or cancelled.")
]
Algorithm = Annotated[str | None, typer.Option(metavar="ALGORITHM", help="cnn, for example.")]
Framework = Annotated[str | None, typer.Option(metavar="NAME", help="pytorch, for example.")]
TaskType = Annotated[str | None, typer.Option(metavar="NAME", help="image_classification, for example.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="A description of the run.")]
JsonObject = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object, or @FILE.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; repeat it for several.")]
CreatedBy = Annotated[str | None, typer.Option(metavar="NAME", help="The person or system that ran it.")]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="[ROLE=]DATASET",
        help="A dataset that the run used; without a role it counts as training. Repeat it for several.",
    ),
]
ROLES = [purpose.value for purpose in DatasetPurpose]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the run.")],
    status: Status = None,
    algorithm: Algorithm = None,
    framework: Framework = None,
    task_type: TaskType = None,
    description: Description = None,
    hyperparameters: JsonObject = None,
    metrics: JsonObject = None,
    config: JsonObject = None,
    environment: JsonObject = None,
    dataset: Datasets = None,
    repository: Annotated[str | None, typer.Option(metavar="URL", help="The URL of the run's code.")] = None,
    commit: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="The commit of the run's code.")
    ] = None,
    tag: Tag = None,
    created_by: CreatedBy = None,
    as_json: Json = False,
) -> None:
    """Record a training run. Models refer to it with the id that this command prints."""
    fields = {
        "status": status,
        "algorithm": algorithm,
        "framework": framework,
        "task_type": task_type,
        "description": description,
        "hyperparameters": json_object(hyperparameters),
        "metrics": json_object(metrics),
        "config": json_object(config),
        "environment": json_object(environment),
        "datasets": [_used(each) for each in dataset] if dataset else None,
        "code": given({"repository": repository, "commit": commit}) or None,
        "tags": tag,
        "created_by": created_by,
    }
    _show(client_of(context).create_training_job(name, **given(fields)), as_json)


@app.command("list")
def list_jobs(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs with this name.")] = None,
    status: Status = None,
    algorithm: Algorithm = None,
    framework: Framework = None,
    task_type: TaskType = None,
    dataset_id: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Only runs that used this dataset.")
    ] = None,
    tag: Tag = None,
    created_by: CreatedBy = None,
    as_json: Json = False,
) -> None:
    """List training jobs, newest first."""
    found = client_of(context).list_training_jobs(
        page=page,
        limit=limit,
        name=name,
        status=status,
        algorithm=algorithm,
        framework=framework,
        task_type=task_type,
        dataset_id=dataset_id,
        tags=tag,
        created_by=created_by,
    )
    rows = (
        (job.id, job.name, job.algorithm, job.framework, job.status, job.duration_s, job.created_at)
        for job in found
    )
    columns = ("id", "name", "algorithm", "framework", "status", "seconds", "created (UTC)")
    shown = Listing(columns, rows, spare=("framework", "algorithm", "created (UTC)", "seconds"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def get(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Show one training job."""
    _show(client_of(context).get_training_job(job_id), as_json)


@app.command()
def update(
    context: typer.Context,
    job_id: JobId,
    status: Status = None,
    metrics: JsonObject = None,
    description: Description = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason of the failure.")] = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Change a training job, for example its status or metrics. --tag replaces all its tags."""
    fields = {
        "status": status,
        "metrics": json_object(metrics),
        "description": description,
        "error": error,
        "tags": tag,
    }
    changes = given(fields)
    if not changes:
        raise typer.BadParameter("nothing to change: give --status, --metrics or another field")
    _show(client_of(context).update_training_job(job_id, **changes), as_json)


@app.command()
def delete(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Delete a training job that no model refers to."""
    emit(client_of(context).delete_training_job(job_id), as_json, f"Deleted {job_id}.")


def _used(text: str) -> dict[str, str]:
    """Parse ``calibration=ID`` or ``ID``; a reference contains no ``=``."""
    role, separator, dataset_id = text.partition("=")
    if not separator:
        return {"dataset_id": text}
    if role not in ROLES:
        raise typer.BadParameter(
            f"{role!r} is not a role. Roles: {', '.join(ROLES)}.", param_hint="--dataset"
        )
    return {"dataset_id": dataset_id, "role": role}


def _show(job: TrainingJob, as_json: bool) -> None:
    shown = {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "error": job.error,
        "algorithm": job.algorithm,
        "framework": job.framework,
        "task": job.task_type,
        "description": job.description,
        "tags": job.tags,
        "metrics": job.metrics,
        "hyperparameters": job.hyperparameters,
        "config": job.config,
        "environment": job.environment,
        "datasets": "\n".join(f"{used.get('role')}  {used.get('dataset_id')}" for used in job.datasets),
        "code": job.code and given(job.code),
        "created by": job.created_by,
        "started (UTC)": job.started_at,
        "finished (UTC)": job.finished_at,
        "seconds": job.duration_s,
        "created (UTC)": job.created_at,
    }
    emit(job.raw, as_json, Record(shown))
