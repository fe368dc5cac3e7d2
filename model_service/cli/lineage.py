"""``model-service models lineage | compare``."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from model_service.cli.options import MODEL_HELP, ModelId
from model_service.cli.output import Json, client_of, emit
from model_service.cli.tables import Listing, Record

_DIGITS = 12  # of a sha256, for a person

Other = Annotated[str, typer.Argument(metavar="OTHER", help=MODEL_HELP)]


def lineage(
    context: typer.Context,
    model_id: ModelId,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many descendants at most; by default 100.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a model was made from, and what was made from it."""
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
        "more": "There are more descendants: --limit shows them." if found["truncated"] else None,
    }
    emit(found, as_json, Listing(("id", "relation", "name", "version", "status"), rows), Record(origin))


def _kin(model: dict[str, Any], near: str, far: str) -> str:
    return near if model["depth"] == 1 else f"{far} {model['depth']}"


def compare(context: typer.Context, model_id: ModelId, other_id: Other, as_json: Json = False) -> None:
    """Show what differs from one model to another."""
    found = client_of(context).compare_models(model_id, other_id)
    before, after = (f"{found[side]['name']} {found[side]['version']}" for side in ("from", "to"))
    rows = [
        *(
            (kind.removesuffix("s"), *row)
            for kind in ("metrics", "hyperparameters")
            for row in _changes(found[kind])
        ),
        *(("tag", tag, "", "yes") for tag in found["tags"]["added"]),
        *(("tag", tag, "yes", "") for tag in found["tags"]["removed"]),
        *(("file", path, _short(old), _short(new)) for path, old, new in _changes(found["files"])),
        *(("signature", *row) for row in _changes(found["signature"])),
    ]
    columns = ("what", "which", before, after)
    emit(found, as_json, Listing(columns, rows) if rows else f"{before} and {after} do not differ.")


def _changes(difference: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    for key, change in difference["changed"].items():
        yield key, change["from"], change["to"]
    for key, value in difference["removed"].items():
        yield key, value, ""
    for key, value in difference["added"].items():
        yield key, "", value


def _short(checksum: str) -> str:
    return checksum.removeprefix("sha256:")[:_DIGITS]
