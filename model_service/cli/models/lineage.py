"""``model-service models lineage | compare``."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from model_service.cli.common.options import MODEL_HELP, ModelId
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Listing, Record

_DIGITS = 12  # of a sha256, in the output
_NONE: dict[str, dict[str, Any]] = {"added": {}, "removed": {}, "changed": {}}

Other = Annotated[str, typer.Argument(metavar="OTHER", help=MODEL_HELP)]


def lineage(
    context: typer.Context,
    model_id: ModelId,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The maximum number of descendants; by default 100."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the ancestors and the descendants of a model."""
    found = client_of(context).model_lineage(model_id, limit=limit)
    models = [
        *((_kin(model, "parent", "ancestor"), model) for model in reversed(found["ancestors"])),
        ("itself", found["model"]),
        *((_kin(model, "child", "descendant"), model) for model in found["descendants"]),
    ]
    rows = (
        (model["id"], relation, model["name"], model["version"], model["status"])
        for relation, model in models
    )
    job = found["training_job"]
    origin = {
        "training job": job and f"{job['name']}  {job['status']}  {job['id']}",
        "datasets": "\n".join(
            "  ".join(filter(None, (used["name"], used["version"], used["role"], used["dataset_id"])))
            for used in found["datasets"]
        ),
        "more": "There are more descendants: raise --limit to show them." if found["truncated"] else None,
    }
    emit(found, as_json, Listing(("id", "relation", "name", "version", "status"), rows), Record(origin))


def _kin(model: dict[str, Any], near: str, far: str) -> str:
    return near if model["depth"] == 1 else f"{far} {model['depth']}"


def compare(context: typer.Context, model_id: ModelId, other_id: Other, as_json: Json = False) -> None:
    """Show the differences between two models."""
    found = client_of(context).compare_models(model_id, other_id)
    before, after = (f"{found[side]['name']} {found[side]['version']}" for side in ("from", "to"))
    rows = [
        *(("field", *row) for row in _changes(found.get("fields", _NONE))),
        *(("metric", *row) for row in _changes(found["metrics"])),
        *(("hyperparameter", *row) for row in _changes(found["hyperparameters"])),
        *(("tag", tag, "", "yes", "") for tag in found["tags"]["added"]),
        *(("tag", tag, "yes", "", "") for tag in found["tags"]["removed"]),
        *(("file", path, _short(old), _short(new), "") for path, old, new, _ in _changes(found["files"])),
        *(("dataset info", *row) for row in _changes(found.get("dataset_info", _NONE))),
        *(("evaluation", *row) for row in _changes(found.get("evaluations", _NONE))),
        *(("signature", *row) for row in _changes(found["signature"])),
    ]
    # Repeating the same name would need too much space
    names = (found["from"]["version"], found["to"]["version"])
    if found["from"]["name"] != found["to"]["name"]:
        names = (before, after)
    columns = ("what", "which", *names, "change")
    shown = Listing(columns, rows, spare=() if any(row[-1] for row in rows) else ("change",))
    emit(found, as_json, shown if rows else f"{before} and {after} do not differ.")


def _changes(difference: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Format key, both values, and the difference of numbers: absolute, and relative in percent."""
    for key, change in difference["changed"].items():
        yield key, _text(change["from"]), _text(change["to"]), _delta(change)
    for key, value in difference["removed"].items():
        yield key, _text(value), "", ""
    for key, value in difference["added"].items():
        yield key, "", _text(value), ""


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _delta(change: dict[str, Any]) -> str:
    if change.get("delta") is None:
        return ""
    relative = change.get("relative_delta")
    return f"{change['delta']:+.4g}" + (f" ({relative:+.2%})" if relative is not None else "")


def _short(checksum: str) -> str:
    return checksum.removeprefix("sha256:")[:_DIGITS]
