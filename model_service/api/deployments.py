"""/api/v1/deployments"""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, page_limit, services
from model_service.api.idempotency import mark, requested_once
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.deployments import (
    CreatedDeployment,
    Deployment,
    DeploymentPage,
    DeploymentPath,
    DeploymentQuery,
    NewDeployment,
)

api = APIBlueprint(
    "deployments", __name__, url_prefix="/api/v1/deployments", abp_tags=[Tag(name="deployments")]
)


@api.post("", responses={202: CreatedDeployment})
def create_deployment(body: NewDeployment) -> Response:
    """Deploy a verified export. The answer holds the endpoint's key, this once.

    With Idempotency-Key, once however often it is sent: a repetition is answered with the same key.
    """
    once = requested_once()
    deployment, api_key = services().deployments.create(**body.model_dump(), once=once)
    return mark(answer(CreatedDeployment.model_validate(deployment | {"api_key": api_key}), 202), once)


@api.get("", responses={200: DeploymentPage})
def list_deployments(query: DeploymentQuery) -> Response:
    """List deployments, newest first."""
    page = services().deployments.search(status=query.status, page=query.page, limit=page_limit(query))
    found = [Deployment.model_validate(item) for item in page.items]
    return answer(DeploymentPage(deployments=found, pagination=Pagination.of(page)))


@api.get("/<deployment_id>", responses={200: Deployment})
def get_deployment(path: DeploymentPath) -> Response:
    """Read one deployment."""
    return answer(Deployment.model_validate(services().deployments.get(path.deployment_id)))


@api.delete("/<deployment_id>", responses={200: Deleted})
def delete_deployment(path: DeploymentPath) -> Response:
    """Stop serving it and forget its key."""
    services().deployments.delete(path.deployment_id)
    return answer(Deleted(message="Deployment deleted successfully", deleted_id=path.deployment_id))
