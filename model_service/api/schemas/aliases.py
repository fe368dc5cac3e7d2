"""Aliases."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Id, QualifiedName, Query, documented
from model_service.api.schemas.models import ModelPath

# The same rule as in ``services.common.references.check_alias``.
AliasText = Annotated[
    str, documented(r"^(?!latest$)(?!\.{1,2}$)(?![vV]?[0-9]+(\.[0-9]+)?$)[A-Za-z0-9_.\-]{1,64}$")
]


class AliasPath(ModelPath):
    alias: AliasText


class AliasQuery(Query):
    name: QualifiedName


class Alias(BaseModel):
    alias: str
    name: str
    version: str
    model_id: Id
    reference: str = Field(description="finds this version as long as it has the alias")

    @classmethod
    def of(cls, model: Mapping[str, Any], alias: str) -> "Alias":
        return cls(
            alias=alias,
            name=model["name"],
            version=model["version"],
            model_id=model["_id"],
            reference=f"models:/{model['name']}@{alias}",
        )


class AliasSet(Alias):
    success: Literal[True] = True
    message: str = "Alias set"


class AliasRemoved(BaseModel):
    success: Literal[True] = True
    message: str = "Alias removed"
    alias: str
    name: str
    version: str
    model_id: Id


class AliasList(BaseModel):
    name: str
    aliases: list[Alias]
