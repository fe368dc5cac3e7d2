"""Aliases of model versions."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.models.revisions import tagged
from model_service.api.schemas.aliases import (
    Alias,
    AliasEvent,
    AliasHistory,
    AliasList,
    AliasPath,
    AliasQuery,
    AliasRemoved,
    AliasSet,
    HistoryQuery,
    MoveQuery,
)
from model_service.api.schemas.models import ModelPath

api = APIBlueprint("aliases", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="models")])


@api.get("/aliases", responses={200: AliasList})
@policy(Permission.READ)
def list_aliases(query: AliasQuery) -> Response:
    """List the aliases of a name.

    Returns every alias of the name in `name` and the version that it is on, those of the highest version
    first.
    """
    models = services().aliases.of_name(query.name)
    found = [Alias.of(model, alias) for model in models for alias in model["aliases"]]
    return answer(AliasList(name=query.name, aliases=found))


@api.get("/aliases/history", responses={200: AliasHistory})
@policy(Permission.READ)
def alias_history(query: HistoryQuery) -> Response:
    """Read the history of an alias.

    Who moved it to which version and why, newest first, with the changes of its gate, the approvals, and
    what each move was allowed by.
    """
    entries = services().aliases.history(query.name, query.alias, query.limit)
    events = [AliasEvent.of(entry) for entry in entries]
    return answer(AliasHistory(name=query.name, alias=query.alias, events=events))


@api.get("/models/<model_ref:model_id>/aliases", responses={200: AliasList})
@policy(Permission.READ)
def list_model_aliases(path: ModelPath) -> Response:
    """List the aliases of a version.

    Returns the aliases that point to this version.
    """
    model = services().models.get(path.model_id)
    found = [Alias.of(model, alias) for alias in model.get("aliases", ())]
    return answer(AliasList(name=model["name"], aliases=found))


@api.put("/models/<model_ref:model_id>/aliases/<alias>", responses={200: AliasSet})
@policy(Permission.WRITE)
def set_alias(path: AliasPath, query: MoveQuery) -> Response:
    """Set an alias on a version.

    If another version of the name has the alias, it is moved in one step. An alias has 1 to 64 letters,
    digits, `_`, `-` or `.`; `latest` and texts that look like a version are refused. An archived version
    takes no alias (409). If the alias has a gate that the version does not pass, it stays where it is: 409
    `gate_refused`, and `details.missing` lists what is missing.
    """
    model = services().aliases.set(path.model_id, path.alias, query.comment)
    return tagged(answer(AliasSet(**Alias.of(model, path.alias).model_dump())), model["revision"])


@api.delete("/models/<model_ref:model_id>/aliases/<alias>", responses={200: AliasRemoved})
@policy(Permission.WRITE)
def remove_alias(path: AliasPath) -> Response:
    """Remove an alias from a version.

    404 if this version does not have the alias.
    """
    model = services().aliases.remove(path.model_id, path.alias)
    removed = AliasRemoved(
        alias=path.alias, name=model["name"], version=model["version"], model_id=str(model["_id"])
    )
    return tagged(answer(removed), model["revision"])
