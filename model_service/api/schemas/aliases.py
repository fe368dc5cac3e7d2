"""Aliases."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Id, JSONObject, QualifiedName, Query, documented
from model_service.api.schemas.models import ModelPath

# The same rule as in ``services.common.references.check_alias``.
AliasText = Annotated[
    str, documented(r"^(?!latest$)(?!\.{1,2}$)(?![vV]?[0-9]+(\.[0-9]+)?$)[A-Za-z0-9_.\-]{1,64}$")
]

Comment = Annotated[str, Field(max_length=1000, description="the reason, for the history of the alias")]


class AliasPath(ModelPath):
    alias: AliasText


class AliasQuery(Query):
    name: QualifiedName


class HistoryQuery(AliasQuery):
    alias: AliasText
    limit: int = Field(50, ge=1, le=200, description="the maximum; the newest are returned")


class MoveQuery(Query):
    comment: Comment | None = None


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


class AliasEvent(BaseModel):
    at: datetime
    actor: str
    action: str = Field(
        description="alias_set, alias_taken, alias_removed, gate_set, gate_removed, approved or "
        "approval_withdrawn"
    )
    version: str | None
    comment: str | None
    details: JSONObject

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "AliasEvent":
        details = {key: value for key, value in entry["details"].items() if key != "alias"}
        version, comment = details.pop("version", None), details.pop("comment", None)
        return cls(
            at=entry["at"],
            actor=entry["actor"],
            action=entry["action"],
            version=version,
            comment=comment,
            details=details,
        )


class AliasHistory(BaseModel):
    name: str
    alias: str
    events: list[AliasEvent]
