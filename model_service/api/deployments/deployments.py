"""/api/v1/deployments"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.files.downloads import FILE_RESPONSES, send_file
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.signed import package_url, signed_address
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
from model_service.services.deployments.kinds import notice_of
from model_service.services.deployments.requests import SentDeployment
from model_service.states import DeploymentStatus, DeploymentType

URL = "/api/v1/deployments"
TAG = Tag(name="deployments")
api = APIBlueprint("deployments", __name__, url_prefix=URL, abp_tags=[TAG])


def _addressed(stored: Any) -> dict[str, Any]:
    """Add the URLs and the shown name to a stored deployment."""
    return {
        **stored,
        **_delivered(stored),
        "endpoint_url": services().deployments.endpoint_url(stored, absolute("")),
        "display_name": stored.get("display_name") or stored["name"],
    }


def _delivered(stored: Any) -> dict[str, Any]:
    """Return what a deployment without an endpoint offers; empty for others."""
    delivery = stored.get("delivery")
    if delivery is None:
        return {}
    expires_at, url = delivery["expires_at"], None
    if (
        stored["status"] == DeploymentStatus.ACTIVE
        and expires_at is not None
        and expires_at > datetime.now(UTC)
    ):
        url = package_url(stored["_id"], delivery["address"], int(expires_at.timestamp()))
    return {
        "download_url": url,
        "expires_at": expires_at,
        "download_count": delivery["downloads"],
        "notice": notice_of(stored),
        "package": delivery.get("package"),
    }


def answer_deployment(stored: Mapping[str, Any]) -> Response:
    return tagged(answer(WholeDeployment.model_validate(_addressed(stored))), stored["revision"])


@api.post("", responses={201: CreatedDeployment, 202: CreatedDeployment})
@policy(Permission.DEPLOY)
def create_deployment(body: NewDeployment) -> Response:
    """Create a deployment.

    A `platform_endpoint` serves one verified export (`export_job_id`) or several (`traffic`, `models` or
    `ensemble`). Its response contains the endpoint's first key in `api_key`, which cannot be read again. An
    export that is not verified is a 409 (`not_verified`). A `download` (201, active at once), an
    `edge_package` and a `container` offer a package at `download_url`, also of an export that could not be
    executed here. 202: wait until `status` is `active`. `Idempotency-Key` is supported and returns the same
    key.
    """
    once = requested_once()
    stored, text = services().deployments.create(cast(SentDeployment, body.fields()), once)
    status = 201 if stored["deployment_type"] == DeploymentType.DOWNLOAD else 202
    response = answer(CreatedDeployment.model_validate(_addressed(stored) | {"api_key": text}), status)
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


@api.get("/<deployment_ref:deployment_id>/download", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_deployment(path: DeploymentPath) -> Response:
    """Download the package of a deployment.

    Returns the zip of a deployment without an endpoint. `download_url` of the deployment is this URL with a
    signature, which needs no other credential until it expires. `HEAD`, `Range` and `If-None-Match` are
    supported.
    """
    deployment = services().deployments.get(path.deployment_id)
    response = send_file(services().package_downloads.open(deployment, signed_address()))
    if request.method == "GET" and response.status_code == 200:
        try:
            services().package_downloads.count(deployment)
        except BaseException:
            response.close()
            raise
    return response


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
