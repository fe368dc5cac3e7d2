"""/api/v1/deployments/{id}/keys"""

from collections.abc import Mapping
from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint

from model_service.actor import Permission
from model_service.api.deployments.deployments import TAG, URL
from model_service.api.http.context import answer, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.schemas.access import Rotation
from model_service.api.schemas.common import Deleted
from model_service.api.schemas.deployment_keys import (
    CreatedDeploymentKey,
    DeploymentKey,
    DeploymentKeyList,
    DeploymentKeyPath,
    NewDeploymentKey,
)
from model_service.api.schemas.deployments import DeploymentPath
from model_service.services.common.idempotency import Once

api = APIBlueprint("deployment_keys", __name__, url_prefix=URL, abp_tags=[TAG])


def _created(stored: Mapping[str, Any], text: str, once: Once | None) -> Response:
    return mark(answer(CreatedDeploymentKey.model_validate({**stored, "key": text}), 201), once)


@api.post("/<deployment_ref:deployment_id>/keys", responses={201: CreatedDeploymentKey})
@policy(Permission.DEPLOY)
def create_deployment_key(path: DeploymentPath, body: NewDeploymentKey) -> Response:
    """Create an endpoint key.

    The response contains the key's text in `key`, which cannot be read again. `Idempotency-Key` is
    supported and returns the same text.
    """
    once = requested_once()
    stored, text = services().deployment_keys.create(path.deployment_id, **body.model_dump(), once=once)
    return _created(stored, text, once)


@api.get("/<deployment_ref:deployment_id>/keys", responses={200: DeploymentKeyList})
@policy(Permission.READ)
def list_deployment_keys(path: DeploymentPath) -> Response:
    """List the endpoint keys of a deployment.

    Newest first, without their texts, with the time of their last use.
    """
    found = services().deployment_keys.list(path.deployment_id)
    return answer(DeploymentKeyList(keys=[DeploymentKey.model_validate(key) for key in found]))


@api.post("/<deployment_ref:deployment_id>/keys/<key_id>/rotate", responses={201: CreatedDeploymentKey})
@policy(Permission.DEPLOY)
def rotate_deployment_key(path: DeploymentKeyPath, body: Rotation) -> Response:
    """Replace an endpoint key.

    Creates a key that replaces this one, and returns its text once. The old key works for `grace_s` more
    seconds (0). `Idempotency-Key` is supported.
    """
    once = requested_once()
    stored, text = services().deployment_keys.rotate(
        path.deployment_id, path.key_id, grace_s=body.grace_s, once=once
    )
    return _created(stored, text, once)


@api.delete("/<deployment_ref:deployment_id>/keys/<key_id>", responses={200: Deleted})
@policy(Permission.DEPLOY)
def revoke_deployment_key(path: DeploymentKeyPath) -> Response:
    """Revoke an endpoint key.

    Requests with the key are refused everywhere within 2 seconds.
    """
    services().deployment_keys.revoke(path.deployment_id, path.key_id)
    return answer(Deleted(message="Key revoked successfully", deleted_id=path.key_id))
