"""Calls on deployments. Each ``deployment_id`` is an id, or a name that no other deployment has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.deployment_types import Deployment, DeploymentEvent, DeploymentUsage, LogEntry
from model_service.client.errors import DeploymentFailed, InvalidArgument
from model_service.client.records import Page
from model_service.client.references import url_of
from model_service.states import DeploymentStatus

DEPLOYMENTS = "/api/v1/deployments"
_OFF = frozenset({DeploymentStatus.INACTIVE, DeploymentStatus.FAILED})


class DeploymentCalls(Calls):
    def create_deployment(
        self,
        export_job_id: str | None = None,
        name: str | None = None,
        *,
        traffic: Sequence[Mapping[str, Any]] | None = None,
        models: Mapping[str, str] | None = None,
        ensemble: Sequence[Mapping[str, Any]] | None = None,
        override_verification: bool | None = None,
        **fields: Any,
    ) -> Deployment:
        """The deployment, not yet serving. Its ``api_key`` is told here and never again: keep it.

        What answers is one export, or

        Args:
            traffic: several, each with its share of the requests: ``{"export_job_id", "weight", "name"?}``.
            models: several behind one address, by the name that a request gives: name → export's id.
            ensemble: a chain, the outputs of one being the inputs of the next: ``{"export_job_id", "name"?,
                "inputs"?}``, where ``inputs`` maps an input's name to ``"member.output"`` or ``"input"``.
            override_verification: by an administrator, for an export that was not proven.
            fields: ``description``, ``deployment_type``, ``config``, ``sticky_header``, ``shadow``
                (``{"export_job_id", "share"}``), ``rollback`` (``{"max_error_rate", "max_p95_ms", …}``).

        Raises:
            Conflict: an export is not completed, or not proven (code ``not_verified``).
            InvalidArgument: no name, or not exactly one of the four.
        """
        routes = {"export_job_id": export_job_id, "traffic": traffic, "models": models, "ensemble": ensemble}
        if not name:
            raise InvalidArgument("A deployment takes a name.")
        if sum(route is not None for route in routes.values()) != 1:
            raise InvalidArgument(f"A deployment takes exactly one of {', '.join(routes)}.")
        data = {"name": name, **routes, "override_verification": override_verification, **fields}
        given = {field: value for field, value in data.items() if value is not None}
        return Deployment.from_json(self._transport.create(DEPLOYMENTS, given))

    def get_deployment(self, deployment_id: str) -> Deployment:
        """Raises: NotFound. Conflict: several have this name; ``details["ids"]`` are theirs."""
        return Deployment.from_json(self._transport.json("GET", deployment_url(deployment_id)))

    def find_deployment(self, deployment: str) -> Deployment:
        """The same as ``get_deployment``."""
        return self.get_deployment(deployment)

    def list_deployments(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        page: int | None = None,
        limit: int | None = None,
    ) -> Page[Deployment]:
        """Newest first."""
        query = {"status": status, "name": name, "page": page, "limit": limit}
        return self._page(DEPLOYMENTS, "deployments", Deployment, query)

    def update_deployment(
        self, deployment_id: str, *, revision: int | None = None, **changes: Any
    ) -> Deployment:
        """Changes what is given, ``config`` field by field; the fields are those of ``create_deployment``.

        It goes on answering as before until the servers have loaded what is new: ``wait_for_deployment``.

        Args:
            revision: change it only if this is its revision still, so that nobody's change is overwritten.

        Raises:
            PreconditionFailed: it has another revision; a first, lost answer may have been this change's.
            Conflict: an export is not completed, or not proven (code ``not_verified``).
        """
        return self._change("PATCH", deployment_id, revision, changes)

    def replace_deployment(
        self, deployment_id: str, *, revision: int | None = None, **fields: Any
    ) -> Deployment:
        """As ``update_deployment``, but what is not given becomes what it is by default."""
        return self._change("PUT", deployment_id, revision, fields)

    def _change(
        self, method: str, deployment_id: str, revision: int | None, fields: Mapping[str, Any]
    ) -> Deployment:
        headers = {} if revision is None else {"If-Match": f'"r{revision}"'}
        changed = self._transport.json(
            method, deployment_url(deployment_id), data=dict(fields), headers=headers
        )
        return Deployment.from_json(changed)

    def delete_deployment(self, deployment_id: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion."""
        return self._transport.json("DELETE", deployment_url(deployment_id))

    def scale_deployment(
        self,
        deployment_id: str,
        replicas: int | None = None,
        *,
        min_replicas: int | None = None,
        max_replicas: int | None = None,
        target_utilization: int | None = None,
    ) -> Deployment:
        """To so many ``replicas``, or to as many between two bounds as keep them ``target_utilization``
        percent busy."""
        bounds = {
            "replicas": replicas,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_utilization": target_utilization,
        }
        given = {name: value for name, value in bounds.items() if value is not None}
        return self._act(deployment_id, "scale", given)

    def activate_deployment(self, deployment_id: str) -> Deployment:
        """Starts one that was switched off or failed; one that runs goes on."""
        return self._act(deployment_id, "activate", {})

    def deactivate_deployment(self, deployment_id: str) -> Deployment:
        """Switches it off; its keys and its history stay. Raises: Conflict: it failed."""
        return self._act(deployment_id, "deactivate", {})

    def rollback_deployment(self, deployment_id: str, revision: int | None = None) -> Deployment:
        """Back to what an earlier revision was, as a revision of its own.

        Args:
            revision: one of its last five; by default the newest that had other traffic.

        Raises:
            Conflict: there is nothing to go back to; ``details["revisions"]`` are those that are kept.
        """
        data = {} if revision is None else {"revision": revision}
        return Deployment.from_json(self._transport.create(f"{deployment_url(deployment_id)}/rollback", data))

    def promote_deployment(self, deployment_id: str, member: str) -> Deployment:
        """Gives a member of its traffic, or its shadow, all of the requests."""
        return self._act(deployment_id, "promote", {"member": member})

    def _act(self, deployment_id: str, action: str, data: Mapping[str, Any]) -> Deployment:
        url = f"{deployment_url(deployment_id)}/{action}"
        return Deployment.from_json(self._transport.json("POST", url, data=dict(data)))

    def deployment_history(
        self,
        deployment_id: str,
        *,
        event: str | None = None,
        page: int | None = None,
        limit: int | None = None,
    ) -> Page[DeploymentEvent]:
        """What was done to it, newest first."""
        query = {"event_type": event, "page": page, "limit": limit}
        return self._page(f"{deployment_url(deployment_id)}/history", "history", DeploymentEvent, query)

    def deployment_usage(
        self,
        deployment_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        granularity: str | None = None,
    ) -> DeploymentUsage:
        """Requests, errors, times and bytes by ``hour`` or ``day``, member and version.

        Args:
            start, end: with their time zones; by default the last day, by day the last 30.
        """
        query = {"from": start, "to": end, "granularity": granularity}
        answer = self._transport.json("GET", f"{deployment_url(deployment_id)}/usage", query=query)
        return DeploymentUsage.from_json(answer)

    def deployment_logs(
        self, deployment_id: str, *, level: str | None = None, limit: int | None = None
    ) -> tuple[LogEntry, ...]:
        """What the inference servers have to tell of it, newest first."""
        query = {"level": level, "limit": limit}
        answer = self._transport.json("GET", f"{deployment_url(deployment_id)}/logs", query=query)
        return tuple(LogEntry.from_json(each) for each in answer.get("logs", ()))

    def wait_for_deployment(
        self, deployment: str | Deployment, *, revision: int | None = None, timeout_s: float = 120
    ) -> Deployment:
        """The deployment, serving ``revision`` or a newer one; by default that of the Deployment passed in,
        whose key stays with it.

        Raises:
            DeploymentFailed: it failed, or was switched off meanwhile; or the servers could not load that
                revision, or went back from it: they go on with the one before.
            WaitTimedOut: not serving in ``timeout_s``; the start goes on.
        """
        known = deployment if isinstance(deployment, Deployment) else None
        deployment_id = deployment if isinstance(deployment, str) else deployment.id
        wanted = revision if revision is not None or known is None else known.revision

        def ended(seen: Deployment) -> bool:
            return seen.serves(wanted) or seen.gave_up(wanted) or seen.status in _OFF

        seen = wait(lambda: self.get_deployment(deployment_id), ended, timeout_s)
        if seen.gave_up(wanted) or not seen.serves(wanted):
            reason = seen.error_message or "the service gave no reason."
            what = f"Revision {wanted} of deployment {seen.id} was given up"
            if not seen.gave_up(wanted):
                what = f"Deployment {seen.id} is {seen.status}"
            raise DeploymentFailed(seen, f"{what}: {reason}", "deployment_failed")
        if known is None or known.api_key is None:
            return seen
        return replace(seen, api_key=known.api_key, raw={**seen.raw, "api_key": known.api_key})


def deployment_url(deployment_id: str) -> str:
    return url_of("deployments", deployment_id)
