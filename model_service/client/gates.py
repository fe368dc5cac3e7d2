"""Calls on promotion gates, and on the approvals that they count."""

from collections.abc import Mapping
from typing import Any

from model_service.client.calls import Calls
from model_service.client.gate_types import Approval, CheckedGate, Gate
from model_service.client.models import model_url
from model_service.client.transport.http import segment

GATES = "/api/v1/gates"


class GateCalls(Calls):
    def set_gate(self, name: str, alias: str, rules: Mapping[str, Any] | None = None, **fields: Any) -> Gate:
        """Set the conditions that a version of the name must meet to get the alias.

        ``rules``, or keywords, with at least one of: ``verified_export`` (``{"format": "onnx", "validated":
        True}``), ``metrics`` (a list of ``{"dataset_id": …, "metric": "accuracy", "min": 0.95, "of":
        "model"}``; ``max`` instead of ``min``, ``export`` instead of ``model``), ``max_p99_ms`` and
        ``approvals``.

        Raises:
            InvalidRequest: no rule, or a wrong one.
            NotFound: a dataset does not exist.
            Conflict: approvals are required, but the service has no authentication.
        """
        url = f"{GATES}/{segment(alias)}"
        data = {**(rules or {}), **fields}
        return Gate.from_json(self._transport.json("PUT", url, data=data, query={"name": name}))

    def list_gates(self, name: str) -> list[Gate]:
        """Return the gates of a name, by alias."""
        answer = self._transport.json("GET", GATES, query={"name": name})
        return [Gate.from_json(gate) for gate in answer["gates"]]

    def delete_gate(self, name: str, alias: str) -> dict[str, Any]:
        """Remove a gate. NotFound may mean that an earlier try, whose response was lost, removed it."""
        return self._transport.json("DELETE", f"{GATES}/{segment(alias)}", query={"name": name})

    def check_gate(self, model_id: str, alias: str) -> CheckedGate:
        """Return whether the caller may move the alias to this version now, and each condition."""
        url = f"{model_url(model_id)}/gates/{segment(alias)}"
        return CheckedGate.from_json(self._transport.json("GET", url))

    def approve(self, model_id: str, alias: str, *, comment: str | None = None) -> Approval:
        """Approve this version for the alias, as the calling user.

        Raises:
            Conflict: the service has no authentication, or the request has its API_KEY.
        """
        data = {"alias": alias, **({} if comment is None else {"comment": comment})}
        return Approval.from_json(self._transport.json("POST", f"{model_url(model_id)}/approvals", data=data))

    def list_approvals(self, model_id: str, alias: str | None = None) -> list[Approval]:
        """Return the approvals of this version, for one alias or all, oldest first."""
        answer = self._transport.json("GET", f"{model_url(model_id)}/approvals", query={"alias": alias})
        return [Approval.from_json(approval) for approval in answer["approvals"]]

    def withdraw_approval(self, model_id: str, alias: str) -> dict[str, Any]:
        """Withdraw the calling user's approval."""
        return self._transport.json("DELETE", f"{model_url(model_id)}/approvals/{segment(alias)}")
