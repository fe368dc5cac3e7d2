"""Aliases of model versions."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, services
from model_service.api.revisions import tagged
from model_service.api.schemas.aliases import (
    Alias,
    AliasList,
    AliasPath,
    AliasQuery,
    AliasRemoved,
    AliasSet,
)
from model_service.api.schemas.models import ModelPath

api = APIBlueprint("aliases", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="models")])


@api.get("/aliases", responses={200: AliasList})
def list_aliases(query: AliasQuery) -> Response:
    """The aliases of a name, those of its highest version first."""
    models = services().aliases.of_name(query.name)
    found = [Alias.of(model, alias) for model in models for alias in model["aliases"]]
    return answer(AliasList(name=query.name, aliases=found))


@api.get("/models/<model_ref:model_id>/aliases", responses={200: AliasList})
def list_model_aliases(path: ModelPath) -> Response:
    """The aliases of one version."""
    model = services().models.get(path.model_id)
    found = [Alias.of(model, alias) for alias in model.get("aliases", ())]
    return answer(AliasList(name=model["name"], aliases=found))


@api.put("/models/<model_ref:model_id>/aliases/<alias>", responses={200: AliasSet})
def set_alias(path: AliasPath) -> Response:
    """Give this version the alias; another version of the name that has it loses it in the same moment."""
    model = services().aliases.set(path.model_id, path.alias)
    return tagged(answer(AliasSet(**Alias.of(model, path.alias).model_dump())), model["revision"])


@api.delete("/models/<model_ref:model_id>/aliases/<alias>", responses={200: AliasRemoved})
def remove_alias(path: AliasPath) -> Response:
    """Take the alias from this version."""
    model = services().aliases.remove(path.model_id, path.alias)
    removed = AliasRemoved(
        alias=path.alias, name=model["name"], version=model["version"], model_id=model["_id"]
    )
    return tagged(answer(removed), model["revision"])
