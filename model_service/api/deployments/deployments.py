"""/api/v1/deployments"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.urls import absolute, link
from model_service.api.models.revisions import demanded_revisions, tagged
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.deployments import (
    CreatedDeployment,
    Deployment,
    DeploymentEvent,
    DeploymentHistoryPage,
    DeploymentLog,
    DeploymentLogEntry,
    DeploymentPage,
    DeploymentPatch,
    DeploymentPath,
    DeploymentQuery,
    HistoryQuery,
    LogQuery,
    NewDeployment,
    WholeDeployment,
)
from model_service.services.deployments.requests import SentDeployment

URL = "/api/v1/deployments"
TAG = Tag(name="deployments")
api = APIBlueprint("deployments", __name__, url_prefix=URL, abp_tags=[TAG])


def _addressed(stored: Any) -> dict[str, Any]:
    """Add the URL and the shown name to a stored deployment."""
    return {
        **stored,
        "endpoint_url": services().deployments.endpoint_url(stored, absolute("")),
        "display_name": stored.get("display_name") or stored["name"],
    }


def answer_deployment(stored: Mapping[str, Any]) -> Response:
    return tagged(answer(WholeDeployment.model_validate(_addressed(stored))), stored["revision"])


@api.post("", responses={202: CreatedDeployment})
@policy(Permission.DEPLOY)
def create_deployment(body: NewDeployment) -> Response:
    """Create a deployment.

    Serves one verified export (`export_job_id`) or several (`traffic`, `models` or `ensemble`). 202: the
    inference servers load it; wait until `status` is `active`. The response contains the endpoint's first
    key in `api_key`, which cannot be read again. An export that is not verified is a 409 (`not_verified`).
    `Idempotency-Key` is supported and returns the same key.
    """
    once = requested_once()
    stored, text = services().deployments.create(cast(SentDeployment, body.fields()), once)
    response = answer(CreatedDeployment.model_validate(_addressed(stored) | {"api_key": text}), 202)
    response.headers["Location"] = link(f"{URL}/{stored['_id']}")
    return mark(tagged(response, stored["revision"]), once)


@api.get("", responses={200: DeploymentPage})
@policy(Permission.READ, rate="poll")
def list_deployments(query: DeploymentQuery) -> Response:
    """List deployments.

    A page, newest first, without their revisions. All filters of a request must match.
    """
    page = services().deployments.search(query.filters(), page=query.page, limit=page_limit(query))
    found = [Deployment.model_validate(_addressed(item)) for item in page.items]
    return answer(DeploymentPage(deployments=found, pagination=Pagination.of(page)))


@api.get("/<deployment_ref:deployment_id>", responses={200: WholeDeployment})
@policy(Permission.READ, rate="poll")
def get_deployment(path: DeploymentPath) -> Response:
    """Read a deployment.

    The id may be the deployment's name. `live_revision` is the revision that the servers serve. The `ETag`
    is the `revision`.
    """
    return answer_deployment(services().deployments.get(path.deployment_id))


@api.put("/<deployment_ref:deployment_id>", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def replace_deployment(path: DeploymentPath, body: NewDeployment) -> Response:
    """Replace the definition of a deployment.

    Fields that are not sent get their defaults. Creates a revision, which is loaded while the previous one
    continues to serve. `If-Match` is supported.
    """
    changed = services().deployment_changes.replace(
        path.deployment_id, cast(SentDeployment, body.fields()), revisions=demanded_revisions()
    )
    return answer_deployment(changed)


@api.patch("/<deployment_ref:deployment_id>", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def patch_deployment(path: DeploymentPath, body: DeploymentPatch) -> Response:
    """Change some fields of a deployment.

    `config` is merged deeply; `null` clears `sticky_header`, `shadow`, `rollback` and `description`. Creates
    a revision, which is loaded while the previous one continues to serve; if loading fails, the previous one
    stays and `error_message` has the reason. `If-Match` is supported.
    """
    changed = services().deployment_changes.patch(
        path.deployment_id, cast(SentDeployment, body.fields()), revisions=demanded_revisions()
    )
    return answer_deployment(changed)


@api.delete("/<deployment_ref:deployment_id>", responses={200: Deleted})
@policy(Permission.DEPLOY)
def delete_deployment(path: DeploymentPath) -> Response:
    """Delete a deployment.

    Its endpoint stops and its keys are deleted. History, logs and usage can still be read by its id.
    """
    deleted_id = services().deployments.delete(path.deployment_id)
    return answer(Deleted(message="Deployment deleted successfully", deleted_id=deleted_id))


@api.get("/<deployment_ref:deployment_id>/history", responses={200: DeploymentHistoryPage})
@policy(Permission.READ, rate="poll")
def list_deployment_history(path: DeploymentPath, query: HistoryQuery) -> Response:
    """List the history of a deployment.

    A page of events, newest first: what happened, when, and who caused it.
    """
    page = services().deployments.history(
        path.deployment_id, query.event_type, page=query.page, limit=page_limit(query)
    )
    events = [DeploymentEvent.model_validate(item) for item in page.items]
    return answer(DeploymentHistoryPage(history=events, pagination=Pagination.of(page)))


@api.get("/<deployment_ref:deployment_id>/logs", responses={200: DeploymentLog})
@policy(Permission.READ, rate="poll")
def list_deployment_logs(path: DeploymentPath, query: LogQuery) -> Response:
    """List the log of a deployment.

    The inference servers' entries about it of the last 30 days, newest first. `level` selects that level and
    more severe ones.
    """
    found = services().deployments.logs(path.deployment_id, query.level, limit=page_limit(query))
    return answer(DeploymentLog(logs=[DeploymentLogEntry.model_validate(entry) for entry in found]))
