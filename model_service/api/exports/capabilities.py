"""/api/v1/export/capabilities"""

from dataclasses import asdict

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.schemas.capabilities import (
    AllFrameworks,
    Capabilities,
    CapabilityQuery,
    FrameworkCapabilities,
    OneFramework,
)

api = APIBlueprint("capabilities", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])


@api.get("/capabilities", responses={200: Capabilities})
@policy(Permission.READ)
def get_capabilities(query: CapabilityQuery) -> Response:
    """List which models can be exported to which formats.

    For one `framework` or all: the formats, whether the conversion is direct, its limitations, and
    `available`: whether a running worker has the tools, with the reason if none has. `options` are those of
    every format. `deployment_types` are those of deployments, with the formats that fit each target platform
    of an edge package and each server of a container.
    """
    capabilities = services().capabilities
    types = capabilities.deployment_types()
    if query.framework is not None:
        one = capabilities.of(query.framework)
        return answer(OneFramework(**asdict(one), options=capabilities.options(), deployment_types=types))
    found = capabilities.all()
    return answer(
        AllFrameworks(
            frameworks=[FrameworkCapabilities.model_validate(one) for one in found],
            workers=found[0].workers,
            options=capabilities.options(),
            deployment_types=types,
        )
    )
