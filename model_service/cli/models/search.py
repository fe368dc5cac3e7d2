"""``model-service models list | search``, ``model-service statistics``."""

from typing import Annotated, Any

import typer

from model_service.cli.common.options import given
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record, size

Text = Annotated[str | None, typer.Option(metavar="NAME")]
Bound = list[str] | None


def find(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="Words, all of which it has, in any form.")
    ] = None,
    page: PageNumber = 1,
    limit: PageSize = None,
    cursor: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Go on where a page without a number ended.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="name, download_count, metrics.loss, …; -FIELD: descending."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The versions of this model.")] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="The part before the slash.")] = None,
    algorithm: Annotated[str | None, typer.Option(metavar="ALGORITHM", help="cnn, for example.")] = None,
    framework: Annotated[str | None, typer.Option(metavar="NAME", help="pytorch, for example.")] = None,
    task_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="image_classification, for example.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="active, deprecated or archived.")
    ] = None,
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="That have this alias.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; of several any one.")
    ] = None,
    all_tags: Annotated[
        list[str] | None, typer.Option("--all-tags", metavar="TAG", help="A tag; of several all.")
    ] = None,
    parent: Annotated[str | None, typer.Option(metavar="MODEL", help="Made from this model.")] = None,
    training_job_id: Annotated[
        str | None, typer.Option(metavar="JOB_ID", help="That came from this training job.")
    ] = None,
    created_by: Annotated[str | None, typer.Option(metavar="NAME", help="Who made it.")] = None,
    created_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="2027-01-31T00:00:00Z, for example.")
    ] = None,
    created_before: Annotated[str | None, typer.Option(metavar="TIME", help="The same.")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="At least this accuracy, 0 to 1.")
    ] = None,
    least: Annotated[
        Bound, typer.Option("--min", metavar="METRIC=NUMBER", help="At least this; repeat for several.")
    ] = None,
    most: Annotated[Bound, typer.Option("--max", metavar="METRIC=NUMBER", help="At most this.")] = None,
    as_json: Json = False,
) -> None:
    """Find models: all of them, newest first, or those that match every word and option."""
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
    shown = Listing(columns, rows, spare=("framework", "algorithm", "created (UTC)", "size", "status"))
    emit(found.raw, as_json, shown, footer(found))


def _bounds(which: str, bounds: Bound) -> dict[str, Any]:
    """Parse METRIC=NUMBER. Raises typer.BadParameter."""
    found = {}
    for bound in bounds or ():
        metric, equals, number = bound.rpartition("=")
        try:
            found[f"{which}_{metric}"] = float(number)
        except ValueError:
            equals = ""
        if not metric or not equals:
            raise typer.BadParameter(f"{bound!r} is not like accuracy=0.9", param_hint=f"--{which}")
    return found


def statistics(context: typer.Context, as_json: Json = False) -> None:
    """Show how many models there are, how large they are and how much they are used."""
    told = client_of(context).statistics()
    activity, usage = told["recent_activity"], told["storage_usage"]
    shown = {
        "models": told["total_models"],
        "by algorithm": told["models_by_algorithm"],
        "by status": told["models_by_status"],
        "registered": f"{activity['models_created_today']} today, "
        f"{activity['models_added_last_7_days']} in the last 7 days",
        "downloads": f"{told['total_downloads']}; {activity['downloads_last_24_hours']} in the last 24 hours",
        "size": size(usage["total_size_bytes"]),
        "stored": usage["stored_size_bytes"] is not None
        and f"{size(usage['stored_size_bytes'])}, each content once",
    }
    emit(told, as_json, Record({name: value for name, value in shown.items() if value is not False}))
