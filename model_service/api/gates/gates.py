"""/api/v1/gates, and the gate of an alias for one version."""

from typing import cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.schemas.gates import (
    CheckedGate,
    CheckedGatePath,
    Condition,
    Gate,
    GateList,
    GatePath,
    GateRemoved,
    NameQuery,
    Rules,
)
from model_service.services.gates.gates import SentRules

api = APIBlueprint("gates", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="models")])


@api.get("/gates", responses={200: GateList})
@policy(Permission.READ)
def list_gates(query: NameQuery) -> Response:
    """List the gates of a name.

    Returns the aliases of the name in `name` that have a gate, with their rules.
    """
    found = [Gate.model_validate(gate) for gate in services().gates.of_name(query.name)]
    return answer(GateList(name=query.name, gates=found))


@api.put("/gates/<alias>", responses={200: Gate})
@policy(Permission.ADMIN)
def set_gate(path: GatePath, query: NameQuery, body: Rules) -> Response:
    """Set the gate of an alias.

    From now on, the alias moves only to versions that meet the rules. They replace the rules that it has; the
    version that has the alias keeps it. One export must meet all rules for an export. Rules with `approvals`
    need authentication (409). For administrators of the namespace.
    """
    gate = services().gates.set(query.name, path.alias, cast(SentRules, body.model_dump()))
    return answer(Gate.model_validate(gate))


@api.delete("/gates/<alias>", responses={200: GateRemoved})
@policy(Permission.ADMIN)
def remove_gate(path: GatePath, query: NameQuery) -> Response:
    """Remove the gate of an alias.

    404 if the alias has none. For administrators of the namespace.
    """
    services().gates.remove(query.name, path.alias)
    return answer(GateRemoved(name=query.name, alias=path.alias))


@api.get("/models/<model_ref:model_id>/gates/<alias>", responses={200: CheckedGate})
@policy(Permission.READ)
def check_gate(path: CheckedGatePath) -> Response:
    """Check a version against the gate of an alias.

    Returns every condition, what is stored about it, and whether the caller may move the alias to this
    version now. The caller's own approval does not count.
    """
    checked = services().gates.check(path.model_id, path.alias)
    body = CheckedGate(
        name=checked.model["name"],
        version=checked.model["version"],
        model_id=str(checked.model["_id"]),
        alias=path.alias,
        gated=checked.gate is not None,
        passed=checked.passed,
        conditions=[Condition.model_validate(condition) for condition in checked.conditions],
    )
    return answer(body)
