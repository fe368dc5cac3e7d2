"""Many changes in one request."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from model_service.api.schemas.common import Body, ErrorBody, Text, check_tag
from model_service.states import ModelStatus

Reference = Annotated[str, Field(min_length=1, max_length=300, description="an id or a reference")]
SomeTags = Annotated[list[Text], Field(min_length=1, max_length=100)]


class TagOperation(Body):
    op: Literal["tag", "untag"]
    id: Reference
    tags: SomeTags

    @model_validator(mode="after")
    def _check_new_tags(self) -> Self:
        """Check new tags only: stored tags may be older than the rules, and can be removed."""
        if self.op == "tag":
            for tag in self.tags:
                check_tag(tag)
        return self


class StatusOperation(Body):
    op: Literal["status"]
    id: Reference
    status: ModelStatus


class DeleteOperation(Body):
    op: Literal["delete"]
    id: Reference
    purge: bool = False


class RestoreOperation(Body):
    op: Literal["restore"]
    id: Reference


class AliasOperation(Body):
    op: Literal["alias"]
    id: Reference
    alias: str


Operation = Annotated[
    TagOperation | StatusOperation | DeleteOperation | RestoreOperation | AliasOperation,
    Field(discriminator="op"),
]


class Batch(Body):
    operations: Annotated[list[Operation], Field(min_length=1, max_length=1000)]


class BatchItem(BaseModel):
    index: int
    id: str = Field(description="of the model; for a failed operation, the text that was sent")
    ok: bool
    status: int = Field(description="the HTTP status that a separate request would get")
    error: ErrorBody | None = None


class BatchAnswer(BaseModel):
    success: bool = Field(description="whether all operations succeeded")
    succeeded: int
    failed: int
    results: list[BatchItem]
