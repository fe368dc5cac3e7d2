"""/api/v1/deployments/{id}/…: scale, activate, deactivate, rollback, promote"""

from typing import cast

from flask import Response
from flask_openapi3 import APIBlueprint

from model_service.actor import Permission
from model_service.api.deployments.deployments import TAG, URL, answer_deployment
from model_service.api.http.context import services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.models.revisions import demanded_revisions
from model_service.api.schemas.deployments import (
    DeploymentPath,
    Promotion,
    Renewal,
    Rollback,
    Scaling,
    WholeDeployment,
)
from model_service.services.deployments.requests import SentScaling

api = APIBlueprint("deployment_actions", __name__, url_prefix=URL, abp_tags=[TAG])


@api.post("/<deployment_ref:deployment_id>/scale", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def scale_deployment(path: DeploymentPath, body: Scaling) -> Response:
    """Change the number of replicas.

    Either `replicas`, or some of `min_replicas`, `max_replicas` and `target_utilization` (percent). Creates
    no revision.
    """
    scaling = cast(SentScaling, body.model_dump(exclude_unset=True))
    return answer_deployment(services().deployment_changes.scale(path.deployment_id, scaling))


@api.post("/<deployment_ref:deployment_id>/activate", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def activate_deployment(path: DeploymentPath) -> Response:
    """Activate a deployment.

    Serves a deployment again that is inactive or failed. 403 (`deployment_limit_reached`) if the owner's
    tier allows no more active deployments.
    """
    return answer_deployment(services().deployment_changes.activate(path.deployment_id))


@api.post("/<deployment_ref:deployment_id>/deactivate", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def deactivate_deployment(path: DeploymentPath) -> Response:
    """Deactivate a deployment.

    Its endpoint stops. Keys and revisions stay, and it can be activated again.
    """
    return answer_deployment(services().deployment_changes.deactivate(path.deployment_id))


@api.post("/<deployment_ref:deployment_id>/renew", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def renew_download(path: DeploymentPath, body: Renewal) -> Response:
    """Renew the download URL of a package.

    `download_url` is then valid for `expires_in_s` from now, by default as long as `config` says. URLs that
    were returned before keep their own end; deactivating the deployment ends them all. Creates no revision.
    """
    return answer_deployment(services().package_downloads.renew(path.deployment_id, body.expires_in_s))


@api.post("/<deployment_ref:deployment_id>/rollback", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def rollback_deployment(path: DeploymentPath, body: Rollback) -> Response:
    """Roll a deployment back to an earlier revision.

    Creates a revision equal to `revision`, or, without it, to the newest one that served other traffic. The
    number of replicas does not change. `If-Match` and `Idempotency-Key` are supported.
    """
    once = requested_once()
    changed = services().deployment_changes.rollback(
        path.deployment_id, body.revision, revisions=demanded_revisions(), once=once
    )
    return mark(answer_deployment(changed), once)


@api.post("/<deployment_ref:deployment_id>/promote", responses={200: WholeDeployment})
@policy(Permission.DEPLOY)
def promote_member(path: DeploymentPath, body: Promotion) -> Response:
    """Send all requests to one member.

    Gives one member of a traffic split, or the shadow, all requests, as a new revision. `If-Match` is
    supported.
    """
    changed = services().deployment_changes.promote(
        path.deployment_id, body.member, revisions=demanded_revisions()
    )
    return answer_deployment(changed)
