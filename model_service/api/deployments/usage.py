"""/api/v1/deployments/{id}/usage"""

from flask import Response
from flask_openapi3 import APIBlueprint

from model_service.actor import Permission
from model_service.api.deployments.deployments import TAG, URL
from model_service.api.http.context import services
from model_service.api.http.policy import policy
from model_service.api.schemas.deployments import DeploymentPath
from model_service.api.schemas.usage import DeploymentUsage, UsageQuery

api = APIBlueprint("deployment_usage", __name__, url_prefix=URL, abp_tags=[TAG])


@api.get("/<deployment_ref:deployment_id>/usage", responses={200: DeploymentUsage})
@policy(Permission.READ, rate="poll")
def get_deployment_usage(path: DeploymentPath, query: UsageQuery) -> Response:
    """Read the usage of a deployment.

    Requests, errors, bytes and latency per hour or day, member and model version, from `from` to `to`; by
    default the last 24 hours or 30 days. The owner and administrators also get the `quota` of the month and
    the `price`, an estimate.
    """
    report = services().usage.of(
        path.deployment_id, start=query.from_, end=query.to, granularity=query.granularity
    )
    body = DeploymentUsage.of(report)
    return Response(body.model_dump_json(by_alias=True), mimetype="application/json")
