"""Create, find and delete deployments. ``services.deployments.changes`` updates existing ones."""

import uuid
from collections.abc import Mapping
from typing import NoReturn

from model_service.actor import Permission, actor, may_read, require
from model_service.deployers.base import Deployer
from model_service.errors import Conflict, NotFound
from model_service.services.common.deployment_names import is_plain, named
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page, readable
from model_service.services.common.references import deployment_query
from model_service.services.common.signing import Signing
from model_service.services.common.suggestions import Suggestions
from model_service.services.deployments.keys import FIRST_KEY, new_key, new_text, sha256_of
from model_service.services.deployments.kinds import Plans
from model_service.services.deployments.limits import DeploymentLimits
from model_service.services.deployments.plans import Plan
from model_service.services.deployments.requests import SentDeployment
from model_service.states import DeploymentType
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.deployments.documents import (
    NEW_DELIVERY,
    DeletedDeployment,
    Deployment,
    DeploymentEvent,
    DeploymentLogEntry,
    new_deployment,
)
from model_service.storage.stores import Stores


class DeploymentService:
    def __init__(
        self,
        stores: Stores,
        deployers: Mapping[DeploymentType, Deployer],
        plans: Plans,
        limits: DeploymentLimits,
        *,
        idempotency: Idempotency,
        signing: Signing,
        suggestions: Suggestions,
    ) -> None:
        self._deployers = deployers
        self._database = stores.database
        self._deployments = stores.deployments
        self._keys = stores.deployment_keys
        self._history = stores.deployment_history
        self._audit = stores.audit
        self._plans = plans
        self._limits = limits
        self._idempotency = idempotency
        self._signing = signing
        self._suggestions = suggestions

    def create(self, fields: SentDeployment, once: Once | None = None) -> tuple[Deployment, str | None]:
        """Store a pending deployment and have its target deploy it. Returns it with its key.

        The key is not stored; it is None if the type has no endpoint. With ``once`` the key is derived from
        the idempotency key, so that a repeated request returns it too.

        Args:
            fields: ``name``, the exports, and further fields of the API.

        Raises:
            MalformedId, NotFound, NotPermitted, NotVerified, InvalidField, UnsupportedOption: see ``Plans``.
            DeploymentLimitReached: the caller has as many deployments as their tier allows.
            Conflict: the request is a repetition, and its key was rotated or revoked since.
        """
        kind = fields.get("deployment_type", DeploymentType.PLATFORM_ENDPOINT)
        target = self._deployers[kind]

        def make(note: Note) -> tuple[Deployment, str | None]:
            deployment_id = str(uuid.uuid4())
            plan, config = self._plans.of(kind, fields, deployment_id, actor().name)
            deployment = new_deployment(
                deployment_id,
                actor().name,
                named(fields["name"]),
                fields.get("description"),
                kind,
                plan.routing,
                config,
                now(),
                delivery=None if target.has_endpoint else NEW_DELIVERY,
            )
            text = key = None
            if target.has_endpoint:
                text = new_text(self._signing, deployment_id, once)
                key = new_key(str(uuid.uuid4()), text, deployment_id, FIRST_KEY, None)

            def work(session: Session) -> None:
                note(deployment["_id"], session)
                self._limits.check(deployment["user_id"], session)
                if not self._deployments.insert(deployment, key, session):
                    raise NotFound("package of export job", ", ".join(plan.export_job_ids))
                self._record_new(deployment, plan, session)

            self._database.transaction(work)
            target.create(deployment)
            return self.get(deployment_id), text

        def made(deployment_id: str) -> tuple[Deployment, str | None]:
            deployment, text = self.get(deployment_id), new_text(self._signing, deployment_id, once)
            if not target.has_endpoint:
                return deployment, None
            if self._keys.with_digest(deployment_id, sha256_of(text)) is None:
                raise Conflict(
                    "The key that the first request created has been revoked: create a new one.",
                    id=deployment_id,
                )
            return deployment, text

        return self._idempotency.run(once, make, made)

    def get(self, deployment_id: str) -> Deployment:
        """Return a deployment by id, or by a name or display name that no other readable deployment has.

        Raises:
            NotFound.
            Conflict: several deployments have that name; ``details.ids`` lists them.
        """
        return self._find(deployment_id) or self._raise_missing(deployment_id)

    def _find(self, reference: str) -> Deployment | None:
        query = deployment_query(reference)
        if "_id" in query:
            found = self._deployments.get(query["_id"])
            return found if found is not None and may_read(found["model_name"]) else None
        named = self._deployments.named(query, actor().readable_namespaces())
        if len(named) > 1:
            ids = [each["_id"] for each in named]
            raise Conflict(
                f"{len(named)} deployments have the name {reference!r}: use an id, {' or '.join(ids)}.",
                ids=ids,
            )
        return named[0] if named else None

    def _raise_missing(self, reference: str) -> NoReturn:
        raise self._suggestions.missing("deployment", reference)

    def get_or_deleted(self, deployment_id: str) -> Deployment | DeletedDeployment:
        """Like ``get``, but a deleted deployment is found by its id too, as its history describes it.

        The callers who could read the deployment still can, by its ``model_name``. If that is unknown, only
        callers who may read all namespaces can.

        Raises:
            NotFound, Conflict.
        """
        found: Deployment | DeletedDeployment | None = self._find(deployment_id)
        if found is None and "_id" in (query := deployment_query(deployment_id)):
            deleted = self._history.deleted(query["_id"])
            found = deleted if deleted is not None and _is_readable(deleted.get("model_name")) else None
        return found or self._raise_missing(deployment_id)

    def target(self, deployment: Deployment) -> Deployer:
        return self._deployers[DeploymentType(deployment["deployment_type"])]

    def endpoint_url(self, deployment: Deployment, registry_url: str) -> str | None:
        """Return the endpoint's URL by the current settings, since an inference server may move.

        Args:
            registry_url: the registry's address as the client sees it.
        """
        return self.target(deployment).endpoint_url(deployment["_id"], registry_url)

    def search(self, filters: Fields, *, page: int, limit: int) -> Page[Deployment]:
        """Return the matching deployments that the caller may read, newest first, without their revisions.

        Args:
            filters: fields and their values; None means no filter. ``name`` may be a display name.
        """
        query = readable() | {field: value for field, value in filters.items() if value is not None}
        if "export_job_id" in query:
            query["routing.members.export_job_id"] = query.pop("export_job_id")
        if "name" in query and not is_plain(str(query["name"])):
            query["display_name"] = query.pop("name")
        items, total = self._deployments.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def history(
        self, deployment_id: str, event: str | None, *, page: int, limit: int
    ) -> Page[DeploymentEvent]:
        """Return a page of the deployment's events, newest first; works for deleted deployments too.

        Raises:
            MalformedId, NotFound.
        """
        subject, target = self._with_target(deployment_id)
        items, total = target.events(subject, event, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def logs(self, deployment_id: str, level: str | None, *, limit: int) -> list[DeploymentLogEntry]:
        """Return the inference servers' log entries of this severity or higher, newest first; as ``history``.

        Raises:
            MalformedId, NotFound.
        """
        subject, target = self._with_target(deployment_id)
        return target.logs(subject, level, limit)

    def _with_target(self, deployment_id: str) -> tuple[str, Deployer]:
        """Return the id of a deployment, which may be deleted, and its target."""
        found = self.get_or_deleted(deployment_id)
        kind = found.get("deployment_type", DeploymentType.PLATFORM_ENDPOINT)
        return found["_id"], self._deployers[DeploymentType(str(kind))]

    def delete(self, deployment_id: str) -> str:
        """Stop serving the deployment and delete it with its keys; its history stays. Returns its id.

        Raises:
            MalformedId, NotFound.
            NotPermitted: the caller may not deploy its model.
        """
        wanted = self.get(deployment_id)
        require(Permission.DEPLOY, wanted["model_name"])
        self.target(wanted).delete(wanted["_id"])

        def work(session: Session) -> bool:
            gone = self._deployments.delete(wanted["_id"], session)
            if gone is not None:
                self._audit.record(
                    "deleted",
                    "deployment",
                    gone["_id"],
                    session=session,
                    name=gone["model_name"],
                    details=_audit_details(gone),
                )
            return gone is not None

        if not self._database.transaction(work):
            raise NotFound("deployment", deployment_id)
        self.target(wanted).delete(wanted["_id"])  # what a concurrent update began meanwhile
        return str(wanted["_id"])

    def _record_new(self, deployment: Deployment, plan: Plan, session: Session) -> None:
        subject, status = deployment["_id"], deployment["status"]
        event = {"revision": 1, "exports": plan.export_job_ids, "model_version": deployment["model_version"]}
        self._history.record(subject, "created", None, status, event, session)
        if plan.unverified:
            data = {"revision": 1, "exports": plan.unverified}
            self._history.record(subject, "verification_overridden", status, status, data, session)
        details: dict[str, object] = _audit_details(deployment)
        if plan.unverified:
            details["verification_overridden"] = plan.unverified
        self._audit.record(
            "created", "deployment", subject, session=session, name=deployment["model_name"], details=details
        )


def _is_readable(model_name: str | None) -> bool:
    return actor().readable_namespaces() is None if model_name is None else may_read(model_name)


def _audit_details(deployment: Deployment) -> dict[str, object]:
    """Return the fields of a deployment that the audit log has."""
    return {
        "name": deployment["name"],
        "export_job_id": deployment["export_job_id"],
        "model_version": deployment["model_version"],
    }
