"""What can be exported to what."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, RootModel

from model_service.api.schemas.common import JSONObject, Query
from model_service.services.exports.capabilities import FRAMEWORKS
from model_service.states import DeploymentType

DeploymentTypes = Annotated[
    dict[DeploymentType, dict[str, list[str]]],
    Field(description="of an edge package and a container: platform or server → the formats that fit"),
]


class CapabilityQuery(Query):
    framework: str | None = Field(
        None,
        max_length=40,
        json_schema_extra={"enum": list(FRAMEWORKS)},
        description="timm, huggingface, …; by default all",
    )


class FormatCapability(BaseModel, from_attributes=True):
    supported: bool
    available: bool = Field(description="whether a running worker supports it")
    quality: Literal["excellent", "good", "fair"] | None = Field(
        description="depends on the number of limitations: none, one, or more"
    )
    limitations: list[str] = Field(description="one sentence each")
    native: bool = Field(description="whether the conversion is direct")
    preprocessing_embedded: bool = Field(description="whether embed_preprocessing is offered")
    reason: str | None = Field(description="why it is not available")
    sources: list[str] = Field(description="the kinds of checkpoints")
    extension: str


class FrameworkCapabilities(BaseModel, from_attributes=True):
    framework: str
    formats: dict[str, FormatCapability]


class OneFramework(FrameworkCapabilities):
    workers: int = Field(description="the number of running workers that report their formats")
    options: dict[str, JSONObject] = Field(description="by format")
    deployment_types: DeploymentTypes


class AllFrameworks(BaseModel):
    frameworks: list[FrameworkCapabilities]
    workers: int
    options: dict[str, JSONObject]
    deployment_types: DeploymentTypes


class Capabilities(RootModel[OneFramework | AllFrameworks]):
    pass
