"""``model-service exports``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.common.options import ModelFilter, ModelId, Output, json_object, options_of
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer, waiting
from model_service.cli.common.tables import Listing, printable, size
from model_service.cli.exports.views import job_record, matrix, of_framework
from model_service.client import ExportJob, JobFailed, ModelServiceClient

app = typer.Typer(help="Conversions of models, each compared with its source.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The export's id.")]
Config = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object, or @FILE.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="The longest time to wait.")
]


@app.command()
def create(
    context: typer.Context,
    model_id: ModelId,
    export_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="The target format.")
    ] = "onnx",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=JSON",
            help="An option of the format, for example opset_version=18; repeat it for several.",
        ),
    ] = None,
    export_config: Config = None,
    optimization_config: Config = None,
    validation_config: Config = None,
    version_tag: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A tag of your choice for this export.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--no-reuse", help="Convert the model even if an equal export is stored.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the export is done.")] = False,
    timeout: Timeout = 1800,
    as_json: Json = False,
) -> None:
    """Export a model."""
    client = client_of(context)
    options = {
        "export_config": options_of(option, json_object(export_config)),
        "optimization_config": json_object(optimization_config),
        "validation_config": json_object(validation_config),
        "version_tag": version_tag,
        "reuse": False if again else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    job = client.create_export(model_id, export_format, **given)
    if wait and not job.ended:
        typer.echo(f"Export {job.id} is running. Ctrl-C only stops waiting for it.", err=True)
        _wait(client, job.id, timeout, as_json)
    else:
        _show(job, as_json)


@app.command("list")
def list_jobs(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    model_id: ModelFilter = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="pending, running, completed, failed or cancelled."),
    ] = None,
    training_job_id: Annotated[
        str | None, typer.Option(metavar="JOB_ID", help="Only exports of models of this training job.")
    ] = None,
    export_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="Only exports to this format.")
    ] = None,
    version_tag: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only exports with this tag.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Only default exports.")] = False,
    user_id: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Only exports that this user requested.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List exports, newest first."""
    found = client_of(context).list_exports(
        model_id=model_id,
        status=status,
        page=page,
        limit=limit,
        training_job_id=training_job_id,
        export_format=export_format,
        version_tag=version_tag,
        is_default=True if default else None,
        user_id=user_id,
    )
    rows = (
        (
            job.id,
            " ".join(filter(None, (job.model_name, job.model_version))),
            job.export_format,
            job.status,
            job.error_code or (job.fidelity or {}).get("verdict"),
            job.created_at,
        )
        for job in found
    )
    columns = ("id", "model", "format", "status", "verdict", "created (UTC)")
    shown = Listing(columns, rows, spare=("created (UTC)", "format"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def get(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Show one export."""
    _show(client_of(context).get_export(job_id), as_json)


@app.command()
def wait(context: typer.Context, job_id: JobId, timeout: Timeout = 1800, as_json: Json = False) -> None:
    """Wait until an export is done. The exit code is 1 if it failed."""
    _wait(client_of(context), job_id, timeout, as_json)


@app.command()
def cancel(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Cancel an export that is waiting or running."""
    job = client_of(context).cancel_export(job_id)
    emit(job.raw, as_json, f"Export {job.id} is cancelled.")


@app.command()
def retry(
    context: typer.Context,
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the export is done.")] = False,
    timeout: Timeout = 1800,
    as_json: Json = False,
) -> None:
    """Retry a failed or cancelled export as a new job."""
    job = client_of(context).retry_export(job_id)
    if wait and not job.ended:
        _wait(client_of(context), job.id, timeout, as_json)
    else:
        _show(job, as_json)


@app.command("set-default")
def set_default(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Make an export the default of its model's version."""
    job = client_of(context).set_default_export(job_id)
    model = " ".join(filter(None, (job.model_name, job.model_version)))
    emit(job.raw, as_json, f"Export {job.id} is now the default of {model}.")


@app.command()
def watch(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Print the progress and the log of an export until it ends."""
    for event in client_of(context).export_events(job_id):
        if as_json:
            typer.echo(json.dumps({"id": event.id, "event": event.name, **event.data}))
        elif event.name == "log":
            typer.echo(printable(str(event.data.get("line"))))


@app.command()
def capabilities(
    context: typer.Context,
    framework: Annotated[
        str | None, typer.Argument(metavar="FRAMEWORK", help="timm, huggingface, sklearn, …; by default all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which formats each framework can be exported to, and which the running workers support."""
    found = client_of(context).export_capabilities(framework)
    data = {name: {key: each.raw for key, each in formats.items()} for name, formats in found.items()}
    one = found.get(framework) if framework is not None else None
    emit(data, as_json, *(matrix(found) if one is None else of_framework(one)))


@app.command()
def download(
    context: typer.Context,
    job_id: JobId,
    output: Output = Path(),
    as_json: Json = False,
) -> None:
    """Download an export's package and verify its checksum."""
    client = client_of(context)
    job = client.get_export(job_id)
    written = client.download_export(job_id, output)
    emit(job.raw, as_json, f"{written}  {size(written.stat().st_size)}, checksum verified")


def _wait(client: ModelServiceClient, job_id: str, timeout_s: float, as_json: bool) -> None:
    back = f"Wait for it with `model-service exports wait {job_id}`, or show it with `exports get {job_id}`."
    try:
        with waiting(f"Export {job_id}", back):
            done = client.wait_for_export(job_id, timeout_s=timeout_s)
    except JobFailed as exc:
        # With --json, the failed job is printed; otherwise the end of its log. The error line follows.
        if as_json:
            emit(exc.job.raw, as_json)
        elif isinstance(exc.job, ExportJob):
            typer.echo("\n".join(_steps(exc.job)), err=True)
        raise
    _show(done, as_json)


def _steps(job: ExportJob) -> list[str]:
    """Return the end of the log, without the entry that repeats the error message."""
    message = job.error_message
    return [printable(line) for line in job.log[-10:] if not message or message not in line]


def _show(job: ExportJob, as_json: bool) -> None:
    emit(job.raw, as_json, job_record(job))
