"""Approvals of model versions."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.schemas.gates import (
    Approval,
    ApprovalList,
    ApprovalsQuery,
    ApprovalWithdrawn,
    CheckedGatePath,
    NewApproval,
)
from model_service.api.schemas.models import ModelPath

api = APIBlueprint("approvals", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("/<model_ref:model_id>/approvals", responses={200: ApprovalList})
@policy(Permission.READ)
def list_approvals(path: ModelPath, query: ApprovalsQuery) -> Response:
    """List the approvals of a version.

    Oldest first, for one alias or all.
    """
    found = services().approvals.of_version(path.model_id, query.alias)
    return answer(ApprovalList(approvals=[Approval.model_validate(approval) for approval in found]))


@api.post("/<model_ref:model_id>/approvals", responses={201: Approval})
@policy(Permission.READ)
def approve(path: ModelPath, body: NewApproval) -> Response:
    """Approve a version for an alias.

    Stores the approval of the calling user in place of an earlier one. It holds for the version's present
    files. The user must be allowed to write or to deploy in the namespace. 409 without authentication, and
    with `API_KEY`, whose holder is no user.
    """
    approval = services().approvals.approve(path.model_id, body.alias, body.comment)
    return answer(Approval.model_validate(approval), 201)


@api.delete("/<model_ref:model_id>/approvals/<alias>", responses={200: ApprovalWithdrawn})
@policy(Permission.READ)
def withdraw_approval(path: CheckedGatePath) -> Response:
    """Withdraw an approval.

    Removes the approval of the calling user; 404 if there is none.
    """
    services().approvals.withdraw(path.model_id, path.alias)
    return answer(ApprovalWithdrawn(alias=path.alias))
