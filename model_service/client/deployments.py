"""Calls on deployments. Each ``deployment_id`` is an id, or a name that no other deployment has."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.deployment_types import Deployment, DeploymentEvent, DeploymentUsage, LogEntry
from model_service.client.errors import DeploymentFailed, InvalidArgument
from model_service.client.records import Page
from model_service.client.references import url_of
from model_service.client.transport.progress import MakeBar
from model_service.client.transport.transfer import download
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
        export_job_ids: Mapping[str, str] | None = None,
        override_verification: bool | None = None,
        **fields: Any,
    ) -> Deployment:
        """Create a deployment, which is not active yet. Its ``api_key`` is returned only here: store it.

        A platform endpoint serves one export, or one of ``traffic``, ``models`` and ``ensemble``. Deployments
        of other types offer the package of one export at ``download_url``; an edge package for both platforms
        has ``export_job_ids``.

        Args:
            export_job_ids: ``{"ios": …, "android": …}``.
            traffic: several exports with their shares of the requests: ``{"export_job_id", "weight",
                "name"?}``.
            models: several exports at one address; a request names one of them: name → export's id.
            ensemble: a chain in which outputs are inputs of the next export: ``{"export_job_id", "name"?,
                "inputs"?}``, where ``inputs`` maps an input's name to ``"member.output"`` or ``"input"``.
            override_verification: an administrator deploys an export that is not verified.
            fields: ``description``, ``deployment_type`` (``download``, ``edge_package``, ``container``; by
                default ``platform_endpoint``), ``config``, ``sticky_header``, ``shadow``
                (``{"export_job_id", "share"}``), ``rollback`` (``{"max_error_rate", "max_p95_ms", …}``).

        Raises:
            Conflict: an export is not completed, or not verified (code ``not_verified``).
            InvalidArgument: no name, or not exactly one of the five.
        """
        routes: dict[str, Any] = {
            "export_job_id": export_job_id,
            "traffic": traffic,
            "models": models,
            "ensemble": ensemble,
            "export_job_ids": export_job_ids,
        }
        if not name:
            raise InvalidArgument("A deployment needs a name.")
        if sum(route is not None for route in routes.values()) != 1:
            raise InvalidArgument(f"A deployment needs exactly one of {', '.join(routes)}.")
        data = {"name": name, **routes, "override_verification": override_verification, **fields}
        given = {field: value for field, value in data.items() if value is not None}
        return Deployment.from_json(self._transport.create(DEPLOYMENTS, given))

    def get_deployment(self, deployment_id: str) -> Deployment:
        """Return a deployment.

        Raises:
            NotFound: there is none.
            Conflict: several have this name; ``details["ids"]`` lists them.
        """
        return Deployment.from_json(self._transport.json("GET", deployment_url(deployment_id)))

    def find_deployment(self, deployment: str) -> Deployment:
        """Return a deployment; the same as ``get_deployment``."""
        return self.get_deployment(deployment)

    def list_deployments(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        deployment_type: str | None = None,
        page: int | None = None,
        limit: int | None = None,
    ) -> Page[Deployment]:
        """Return one page, newest first."""
        query = {
            "status": status,
            "name": name,
            "deployment_type": deployment_type,
            "page": page,
            "limit": limit,
        }
        return self._page(DEPLOYMENTS, "deployments", Deployment, query)

    def update_deployment(
        self, deployment_id: str, *, revision: int | None = None, **changes: Any
    ) -> Deployment:
        """Change the given fields, ``config`` field by field; the fields are those of ``create_deployment``.

        It serves the previous revision until the servers have loaded the new one: ``wait_for_deployment``.

        Args:
            revision: change it only if it still has this revision, so that no other change is overwritten.

        Raises:
            PreconditionFailed: it has another revision, possibly from an earlier try whose response was lost.
            Conflict: an export is not completed, or not verified (code ``not_verified``).
        """
        return self._change("PATCH", deployment_id, revision, changes)

    def replace_deployment(
        self, deployment_id: str, *, revision: int | None = None, **fields: Any
    ) -> Deployment:
        """Like ``update_deployment``, but fields that are not given get their defaults."""
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
        """Delete a deployment. NotFound may mean that an earlier try, whose response was lost, deleted it."""
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
        """Set the number of ``replicas``, or its limits and the ``target_utilization`` in percent."""
        bounds = {
            "replicas": replicas,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_utilization": target_utilization,
        }
        given = {name: value for name, value in bounds.items() if value is not None}
        return self._act(deployment_id, "scale", given)

    def activate_deployment(self, deployment_id: str) -> Deployment:
        """Serve an inactive or failed deployment; an active one is not changed."""
        return self._act(deployment_id, "activate", {})

    def deactivate_deployment(self, deployment_id: str) -> Deployment:
        """Stop serving; keys and history are kept. Raises Conflict if the deployment has failed."""
        return self._act(deployment_id, "deactivate", {})

    def rollback_deployment(self, deployment_id: str, revision: int | None = None) -> Deployment:
        """Restore an earlier revision, as a new revision.

        Args:
            revision: one of its last five; by default the newest with other traffic.

        Raises:
            Conflict: there is no such revision; ``details["revisions"]`` lists the stored ones.
        """
        data = {} if revision is None else {"revision": revision}
        return Deployment.from_json(self._transport.create(f"{deployment_url(deployment_id)}/rollback", data))

    def promote_deployment(self, deployment_id: str, member: str) -> Deployment:
        """Send all requests to one member of its traffic, or to its shadow."""
        return self._act(deployment_id, "promote", {"member": member})

    def _act(self, deployment_id: str, action: str, data: Mapping[str, Any]) -> Deployment:
        url = f"{deployment_url(deployment_id)}/{action}"
        return Deployment.from_json(self._transport.json("POST", url, data=dict(data)))

    def renew_deployment(self, deployment_id: str, expires_in_s: int | None = None) -> Deployment:
        """Make ``download_url`` valid for ``expires_in_s`` from now, by default that of ``config``."""
        return self._act(
            deployment_id, "renew", {} if expires_in_s is None else {"expires_in_s": expires_in_s}
        )

    def download_deployment(
        self,
        deployment_id: str,
        output_path: str | os.PathLike[str],
        *,
        progress: bool | MakeBar | None = None,
    ) -> Path:
        """Download the package of a deployment without an endpoint, a zip; otherwise like ``download_model``.

        Raises:
            Conflict: the deployment is not active, or has an endpoint.
        """
        url = f"{deployment_url(deployment_id)}/download"
        return download(self._transport, url, output_path, self._bar_for(progress))

    def deployment_history(
        self,
        deployment_id: str,
        *,
        event: str | None = None,
        page: int | None = None,
        limit: int | None = None,
    ) -> Page[DeploymentEvent]:
        """Return the events of the deployment, newest first."""
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
        """Return requests, errors, times and bytes by ``hour`` or ``day``, member and version.

        Args:
            start, end: with their time zones; by default the last day, by day the last 30.
        """
        query = {"from": start, "to": end, "granularity": granularity}
        answer = self._transport.json("GET", f"{deployment_url(deployment_id)}/usage", query=query)
        return DeploymentUsage.from_json(answer)

    def deployment_logs(
        self, deployment_id: str, *, level: str | None = None, limit: int | None = None
    ) -> tuple[LogEntry, ...]:
        """Return the inference servers' log entries about the deployment, newest first."""
        query = {"level": level, "limit": limit}
        answer = self._transport.json("GET", f"{deployment_url(deployment_id)}/logs", query=query)
        return tuple(LogEntry.from_json(each) for each in answer.get("logs", ()))

    def wait_for_deployment(
        self, deployment: str | Deployment, *, revision: int | None = None, timeout_s: float = 120
    ) -> Deployment:
        """Wait until it serves ``revision`` or a newer one; the default is that of a Deployment passed in.

        The result keeps the key of the Deployment that was passed in.

        Raises:
            DeploymentFailed: it failed, or was deactivated meanwhile; or the servers could not load that
                revision, or rolled back from it: they continue with the previous one.
            WaitTimedOut: not serving within ``timeout_s``; the start continues.
        """
        known = deployment if isinstance(deployment, Deployment) else None
        deployment_id = deployment if isinstance(deployment, str) else deployment.id
        wanted = revision if revision is not None or known is None else known.revision

        def ended(seen: Deployment) -> bool:
            return seen.serves(wanted) or seen.gave_up(wanted) or seen.status in _OFF

        seen = wait(lambda: self.get_deployment(deployment_id), ended, timeout_s)
        if seen.gave_up(wanted) or not seen.serves(wanted):
            reason = seen.error_message or "the service gave no reason."
            what = f"Revision {wanted} of deployment {seen.id} failed to load and was abandoned"
            if not seen.gave_up(wanted):
                what = f"Deployment {seen.id} is {seen.status}"
            raise DeploymentFailed(seen, f"{what}: {reason}", "deployment_failed")
        if known is None or known.api_key is None:
            return seen
        return replace(seen, api_key=known.api_key, raw={**seen.raw, "api_key": known.api_key})


def deployment_url(deployment_id: str) -> str:
    return url_of("deployments", deployment_id)
