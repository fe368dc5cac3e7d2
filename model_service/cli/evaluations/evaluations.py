"""``model-service evaluate`` and ``model-service evaluations``."""

from typing import Annotated

import typer

from model_service.cli.common.options import MODEL_HELP, given, json_object
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer, waiting
from model_service.cli.common.tables import Listing, Record, milliseconds, printable
from model_service.client import Evaluation, JobFailed, ModelServiceClient

app = typer.Typer(help="Metrics of models and exports on datasets.", no_args_is_help=True)

EvaluationId = Annotated[str, typer.Argument(metavar="EVALUATION_ID", help="The evaluation's id.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="The longest time to wait.")
]
# The dataset's file was uploaded a moment ago, in a script.
_INSPECTED_S = 300


def evaluate(
    context: typer.Context,
    dataset_id: Annotated[
        str, typer.Option("--dataset", metavar="DATASET", help="An id, NAME/v1.2 or NAME/latest.")
    ],
    model_id: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help=f"{MODEL_HELP} Not with --export.")
    ] = None,
    export_job_id: Annotated[
        str | None,
        typer.Option("--export", metavar="JOB_ID", help="Evaluate this export instead of a model."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="accuracy or mse, for example; repeat it. By default all."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The number of rows to draw; by default all."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The seed of the draw.")] = 0,
    source_config: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="A JSON object, or @FILE: how the model is loaded, as in export_config."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the evaluation is done.")] = False,
    timeout: Timeout = 1800,
    as_json: Json = False,
) -> None:
    """Evaluate a model version or an export on a dataset."""
    if (model_id is None) == (export_job_id is None):
        raise typer.BadParameter("give a MODEL or --export JOB_ID", param_hint="MODEL")
    client = client_of(context)
    client.wait_for_dataset(dataset_id, timeout_s=_INSPECTED_S)
    options = given(
        {"metrics": metric, "samples": samples, "seed": seed, "source_config": json_object(source_config)}
    )
    found = client.create_evaluation(dataset_id, model_id=model_id, export_job_id=export_job_id, **options)
    if wait:
        typer.echo(f"Evaluation {found.id} is running. Ctrl-C only stops waiting for it.", err=True)
        _wait(client, found.id, timeout, as_json)
    else:
        _show(found, as_json)


@app.command("list")
def list_evaluations(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    model_id: Annotated[
        str | None, typer.Option("--model-id", metavar="MODEL", help="Only those of this version.")
    ] = None,
    dataset_id: Annotated[
        str | None, typer.Option("--dataset", metavar="DATASET", help="Only those on this dataset.")
    ] = None,
    export_job_id: Annotated[
        str | None, typer.Option("--export", metavar="JOB_ID", help="Only those of this export.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="pending, running, completed, failed or cancelled."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List evaluations, newest first."""
    found = client_of(context).list_evaluations(
        page=page,
        limit=limit,
        model_id=model_id,
        dataset_id=dataset_id,
        export_job_id=export_job_id,
        status=status,
    )
    rows = (
        (
            each.id,
            f"{each.model_name} {each.model_version}",
            "export" if each.export_job_id else "model",
            f"{each.dataset_name} {each.dataset_version}",
            each.error_code or each.status,
            ", ".join(_values(each)[:2]),
            each.created_at,
        )
        for each in found
    )
    columns = ("id", "model", "of", "dataset", "status", "metrics", "created (UTC)")
    emit(found.raw, as_json, Listing(columns, rows, spare=("created (UTC)", "of")), footer(found))


@app.command()
def get(context: typer.Context, evaluation_id: EvaluationId, as_json: Json = False) -> None:
    """Show one evaluation."""
    _show(client_of(context).get_evaluation(evaluation_id), as_json)


@app.command()
def wait(
    context: typer.Context, evaluation_id: EvaluationId, timeout: Timeout = 1800, as_json: Json = False
) -> None:
    """Wait until an evaluation is done. The exit code is 1 if it failed."""
    _wait(client_of(context), evaluation_id, timeout, as_json)


@app.command()
def cancel(context: typer.Context, evaluation_id: EvaluationId, as_json: Json = False) -> None:
    """Cancel an evaluation that is waiting or running."""
    found = client_of(context).cancel_evaluation(evaluation_id)
    emit(found.raw, as_json, f"Evaluation {found.id} is cancelled.")


@app.command()
def delete(context: typer.Context, evaluation_id: EvaluationId, as_json: Json = False) -> None:
    """Delete an evaluation that has ended."""
    answer = client_of(context).delete_evaluation(evaluation_id)
    emit(answer, as_json, f"Evaluation {evaluation_id} is deleted.")


def _wait(client: ModelServiceClient, evaluation_id: str, timeout_s: float, as_json: bool) -> None:
    back = f"Wait for it with `model-service evaluations wait {evaluation_id}`."
    try:
        with waiting(f"Evaluation {evaluation_id}", back):
            done = client.wait_for_evaluation(evaluation_id, timeout_s=timeout_s)
    except JobFailed as exc:
        if as_json:
            emit(exc.job.raw, as_json)
        elif isinstance(exc.job, Evaluation):
            typer.echo("\n".join(printable(line) for line in exc.job.log[-10:]), err=True)
        raise
    _show(done, as_json)


def _show(found: Evaluation, as_json: bool) -> None:
    measured = found.performance or {}
    latency = measured.get("inference_latency_ms")
    shown = {
        "id": found.id,
        "model": f"{found.model_name} {found.model_version}",
        "export": found.export_job_id,
        "dataset": f"{found.dataset_name} {found.dataset_version}",
        "status": found.status,
        "progress": None if found.ended else f"{found.progress_percent:.0f} %  {found.progress_message}",
        "error": found.error_code and f"{found.error_code}: {found.error_message}",
        "metrics": "\n".join(_values(found)),
        "rows": found.evaluated_samples,
        "latency": None if latency is None else f"{milliseconds(latency)}, on the worker",
        "created (UTC)": found.created_at,
        "completed (UTC)": found.completed_at,
    }
    emit(found.raw, as_json, Record(shown))


def _values(found: Evaluation) -> list[str]:
    """Format each metric with its interval."""
    lines = []
    for name, result in (found.results or {}).items():
        interval = result.get("interval")
        spread = f"  [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
        lines.append(f"{name}  {result['value']:.4g}{spread}")
    return lines
