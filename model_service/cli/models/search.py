"""``model-service models list | search``, ``model-service statistics``."""

from typing import Annotated, Any

import typer

from model_service.cli.common.options import given
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record, size
from model_service.cli.models.models import Framework, Status, TaskType
from model_service.client import Model, Page

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORD", help="Words that the model must contain, in any inflected form."),
]
Cursor = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The cursor of the previous page, for pages without a number."),
]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="The field to sort by: name, download_count, metrics.loss, …; -FIELD sorts descending.",
    ),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Only versions of this model.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Only models in this namespace, the part of the name before the slash."
    ),
]
Algorithm = Annotated[str | None, typer.Option(metavar="ALGORITHM", help="cnn, for example.")]
Alias = Annotated[str | None, typer.Option(metavar="ALIAS", help="Only versions with this alias.")]
AnyTag = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; if repeated, any of the tags.")
]
AllTags = Annotated[
    list[str] | None, typer.Option("--all-tags", metavar="TAG", help="A tag; if repeated, all of the tags.")
]
Parent = Annotated[str | None, typer.Option(metavar="MODEL", help="Only models made from this model.")]
OfTrainingJob = Annotated[
    str | None, typer.Option(metavar="JOB_ID", help="Only models of this training job.")
]
OfAuthor = Annotated[str | None, typer.Option(metavar="NAME", help="Only models of this author.")]
CreatedAfter = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Created at or after this time, for example 2027-01-31T00:00:00Z."),
]
CreatedBefore = Annotated[str | None, typer.Option(metavar="TIME", help="Created before this time.")]
MinAccuracy = Annotated[float | None, typer.Option(metavar="NUMBER", help="The lowest accuracy, 0 to 1.")]
Min = Annotated[
    list[str] | None,
    typer.Option(
        "--min", metavar="METRIC=NUMBER", help="The lowest value of a metric; repeat it for several."
    ),
]
Max = Annotated[
    list[str] | None,
    typer.Option("--max", metavar="METRIC=NUMBER", help="The highest value of a metric. Repeat it for more."),
]


def find(
    context: typer.Context,
    words: Words = None,
    page: PageNumber = 1,
    limit: PageSize = None,
    cursor: Cursor = None,
    sort: Sort = None,
    name: Name = None,
    namespace: Namespace = None,
    algorithm: Algorithm = None,
    framework: Framework = None,
    task_type: TaskType = None,
    status: Status = None,
    alias: Alias = None,
    tag: AnyTag = None,
    all_tags: AllTags = None,
    parent: Parent = None,
    training_job_id: OfTrainingJob = None,
    created_by: OfAuthor = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    min_accuracy: MinAccuracy = None,
    least: Min = None,
    most: Max = None,
    as_json: Json = False,
) -> None:
    """List models, newest first, or search those that match all words and options."""
    filters = {
        "q": " ".join(words or ()) or None,
        "sort": sort,
        "name": name,
        "namespace": namespace,
        "algorithm": algorithm,
        "framework": framework,
        "task_type": task_type,
        "status": status,
        "alias": alias,
        "tags": tag,
        "all_tags": all_tags,
        "parent_model_id": parent,
        "training_job_id": training_job_id,
        "created_by": created_by,
        "created_after": created_after,
        "created_before": created_before,
        "min_accuracy": min_accuracy,
        **_bounds("min", least),
        **_bounds("max", most),
    }
    found = client_of(context).list_models(page=page, limit=limit, cursor=cursor, **given(filters))
    emit(found.raw, as_json, _listing(found), footer(found))


def _bounds(which: str, bounds: list[str] | None) -> dict[str, Any]:
    """Parse METRIC=NUMBER. Raises typer.BadParameter."""
    found = {}
    for bound in bounds or ():
        metric, equals, number = bound.rpartition("=")
        try:
            found[f"{which}_{metric}"] = float(number)
        except ValueError:
            equals = ""
        if not metric or not equals:
            raise typer.BadParameter(f"{bound!r} is not of the form accuracy=0.9", param_hint=f"--{which}")
    return found


def _listing(found: Page[Model]) -> Listing:
    rows = (
        (
            model.id,
            model.name,
            model.version,
            ", ".join(model.aliases),
            model.algorithm,
            model.framework,
            model.status,
            size(model.size_bytes) if model.files else "no file",
            model.created_at,
        )
        for model in found
    )
    columns = (
        "id",
        "name",
        "version",
        "aliases",
        "algorithm",
        "framework",
        "status",
        "size",
        "created (UTC)",
    )
    return Listing(columns, rows, spare=("framework", "algorithm", "created (UTC)", "size", "status"))


def statistics(context: typer.Context, as_json: Json = False) -> None:
    """Show the number of models, their size and their usage."""
    stats = client_of(context).statistics()
    activity, usage = stats["recent_activity"], stats["storage_usage"]
    shown = {
        "models": stats["total_models"],
        "by algorithm": stats["models_by_algorithm"],
        "by status": stats["models_by_status"],
        "registered": f"{activity['models_created_today']} today, "
        f"{activity['models_added_last_7_days']} in the last 7 days",
        "downloads": f"{stats['total_downloads']}; "
        f"{activity['downloads_last_24_hours']} in the last 24 hours",
        "size": size(usage["total_size_bytes"]),
        "stored": usage["stored_size_bytes"] is not None
        and f"{size(usage['stored_size_bytes'])}, equal files count once",
    }
    emit(stats, as_json, Record({name: value for name, value in shown.items() if value is not False}))
