"""Changes of an existing deployment: update, scale, activate, deactivate, roll back, promote.

A change of the served models creates a new revision. Inference servers load it in the background while the
previous revision keeps serving. Every change reads the deployment in its own transaction.
"""

from collections.abc import Collection
from typing import cast

from model_service.actor import Permission, require
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.services.common.deployment_names import named
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.deployments.deployments import DeploymentService
from model_service.services.deployments.kinds import Plans, require_endpoint
from model_service.services.deployments.limits import DeploymentLimits
from model_service.services.deployments.plans import Plan
from model_service.services.deployments.requests import SentDeployment, SentScaling
from model_service.services.deployments.routing_rules import SPLIT
from model_service.services.models.rules import check_revision, check_transition
from model_service.states import DEPLOYMENT_TRANSITIONS, SERVED, DeploymentStatus, DeploymentType
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields, changed
from model_service.storage.deployments.documents import (
    DEFAULT_WEIGHT,
    Delivery,
    Deployment,
    DeploymentConfig,
    Member,
    Revision,
    Routing,
)
from model_service.storage.deployments.revisions import former
from model_service.storage.stores import Stores


class DeploymentChanges:
    def __init__(
        self,
        stores: Stores,
        plans: Plans,
        limits: DeploymentLimits,
        idempotency: Idempotency,
        service: DeploymentService,
    ) -> None:
        self._database = stores.database
        self._deployments = stores.deployments
        self._history = stores.deployment_history
        self._audit = stores.audit
        self._plans = plans
        self._limits = limits
        self._idempotency = idempotency
        self._service = service

    def replace(
        self, deployment_id: str, fields: SentDeployment, *, revisions: Collection[int] | None
    ) -> Deployment:
        """Replace the whole deployment, with the fields of ``DeploymentService.create``.

        Raises: as ``patch``.
        """
        whole: SentDeployment = {"description": None, **fields}
        return self._revise(deployment_id, whole, revisions, whole=True)

    def patch(
        self, deployment_id: str, fields: SentDeployment, *, revisions: Collection[int] | None
    ) -> Deployment:
        """Change the fields that are sent and keep the others; ``config`` is merged deeply.

        Args:
            revisions: the deployment must be at one of these revisions; None: at any.

        Raises:
            MalformedId, NotFound, NotPermitted, NotVerified, InvalidField: as in ``DeploymentPlans``.
            PreconditionFailed: the deployment is at another revision.
            DeploymentLimitReached: the deployment had failed, and its owner has as many active ones as their
                tier allows.
            Conflict: the request changes the ``deployment_type``.
        """
        return self._revise(deployment_id, fields, revisions, whole=False)

    def _revise(
        self,
        deployment_id: str,
        fields: SentDeployment,
        revisions: Collection[int] | None,
        *,
        whole: bool,
    ) -> Deployment:
        def work(session: Session) -> Deployment:
            before = self._changeable(deployment_id, session)
            check_revision(before, revisions)
            kind = fields.get("deployment_type", before["deployment_type"])
            if kind != before["deployment_type"]:
                raise Conflict(
                    f"The type of a deployment cannot change from {before['deployment_type']} to "
                    f"{kind}: create a new deployment."
                )
            plan, config = self._plans.of(
                DeploymentType(kind),
                fields,
                before["_id"],
                before["user_id"],
                base=None if whole else before,
                present=before,
            )
            changes: dict[str, object] = {}
            if "description" in fields:
                changes["description"] = fields["description"]
            changes |= self._renamed(before, fields, session)
            wanted = {"routing": plan.routing, "config": config, **changes}
            present: Fields = before
            differing = sorted(field for field, value in wanted.items() if value != present.get(field))
            if not differing:
                return before
            after = self._revised(before, plan, config, session, changes)
            data = {"revision": after["revision"]}
            self._record("updated", after, session, {"fields": differing, **data})
            if before["status"] != after["status"]:  # it had failed, and starts again
                self._history.record(
                    after["_id"], str(after["status"]), before["status"], after["status"], data, session
                )
            return after

        return self._at_target(self._database.transaction(work))

    def _at_target(self, deployment: Deployment) -> Deployment:
        """Have the target follow a stored change. Returns the deployment with what the target did at once."""
        self._service.target(deployment).update(deployment)
        return self._service.get(deployment["_id"])

    def _renamed(self, before: Deployment, fields: SentDeployment, session: Session) -> Fields:
        """Return the name and display name to store; empty if the sent name is the present one."""
        sent = fields.get("name")
        if sent is None or sent in (before["name"], before.get("display_name")):
            return {}
        names = named(sent)
        if names["display_name"] is not None:
            names["name"] = self._deployments.free_name(names["name"], session)
        return names

    def scale(self, deployment_id: str, scaling: SentScaling) -> Deployment:
        """Set how many servers the deployment has: ``replicas``, or limits, the fields of ``auto_scaling``.

        Creates no revision.

        Raises:
            MalformedId, NotFound, NotPermitted.
            InvalidField: the maximum is below the minimum, or ``replicas`` came together with limits.
        """
        if not scaling or ("replicas" in scaling and len(scaling) > 1):
            message = "send it alone, or some of min_replicas, max_replicas and target_utilization"
            raise InvalidField.of("replicas", message)
        if "replicas" in scaling:
            replicas = scaling["replicas"]
            scaling = {"min_replicas": replicas, "max_replicas": replicas}

        def work(session: Session) -> Deployment:
            before = self._changeable(deployment_id, session)
            require_endpoint(before, "scaled")
            config = self._plans.endpoints.config(
                {"auto_scaling": scaling}, before["config"], before["user_id"]
            )
            if config == before["config"]:
                return before
            after = self._deployments.set_scaling(before, config["auto_scaling"], session)
            self._record("scaled", after, session, config["auto_scaling"])
            return after

        scaled = self._database.transaction(work)
        self._service.target(scaled).scale(scaled)
        return scaled

    def activate(self, deployment_id: str) -> Deployment:
        """Serve an inactive or failed deployment again. One that is active or starting is not changed.

        Raises:
            MalformedId, NotFound, NotPermitted.
            DeploymentLimitReached: its owner has as many active deployments as their tier allows.
        """
        changes: dict[str, object] = {"deactivated_at": None, "error_message": None, "load_attempts": {}}
        to = DeploymentStatus.DEPLOYING
        return self._switch(deployment_id, to, SERVED, "reactivated", changes)

    def deactivate(self, deployment_id: str) -> Deployment:
        """Stop serving the deployment and keep its keys and packages. An inactive deployment is not changed.

        The URLs of a package that were given out end for good.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the deployment has failed.
        """
        changes: dict[str, object] = {"deactivated_at": now()}
        to = DeploymentStatus.INACTIVE
        return self._switch(deployment_id, to, (to,), "deactivated", changes)

    def _switch(
        self,
        deployment_id: str,
        to: DeploymentStatus,
        already: Collection[DeploymentStatus],
        event: str,
        changes: Fields,
    ) -> Deployment:
        def work(session: Session) -> Deployment:
            before = self._changeable(deployment_id, session)
            status = DeploymentStatus(before["status"])
            if status in already:
                return before
            check_transition("deployment", status, to, DEPLOYMENT_TRANSITIONS)
            if to in SERVED:
                self._limits.check(before["user_id"], session)
            stored: dict[str, object] = {**changes, "updated_at": now()}
            details = {"revision": before["revision"]}
            if "delivery" in before:
                stored["delivery"] = _switched(before["delivery"], active=to in SERVED)
            self._deployments.shift(before["_id"], to, event, session, changes=stored, data=details)
            self._record(event, before, session, details)
            return changed(before, {**stored, "status": to})

        return self._at_target(self._database.transaction(work))

    def rollback(
        self,
        deployment_id: str,
        number: int | None,
        *,
        revisions: Collection[int] | None,
        once: Once | None = None,
    ) -> Deployment:
        """Make an earlier revision the newest again; None: the newest that was served with other traffic.

        Raises:
            MalformedId, NotFound, NotPermitted, PreconditionFailed.
            Conflict: there is no such revision; ``details.revisions`` lists the kept revisions.
        """

        def make(note: Note) -> Deployment:
            def work(session: Session) -> Deployment:
                before = self._changeable(deployment_id, session)
                note(before["_id"], session)
                check_revision(before, revisions)
                entry = _earlier(before, number)
                self._check_room(before, session)
                after = self._deployments.restore(before, entry, session, reason=None, data={})
                if after is None:
                    raise NotFound("package of revision", str(entry["revision"]))
                return after

            return self._at_target(self._database.transaction(work))

        return self._idempotency.run(once, make, self._service.get)

    def promote(self, deployment_id: str, member: str, *, revisions: Collection[int] | None) -> Deployment:
        """Route all requests to one member of a traffic split, or to its shadow.

        Raises:
            MalformedId, NotFound, NotPermitted, PreconditionFailed.
            InvalidField: there is no such member.
            Conflict: the deployment does not split traffic.
        """

        def work(session: Session) -> Deployment:
            before = self._changeable(deployment_id, session)
            check_revision(before, revisions)
            require_endpoint(before, "promoted")
            routing = _promoted(before["routing"], member)
            if routing == before["routing"]:
                return before
            after = self._revised(before, Plan(routing), before["config"], session)
            data = {"member": member, "revision": after["revision"], "model_version": after["model_version"]}
            self._history.record(before["_id"], "promoted", before["status"], after["status"], data, session)
            self._record("promoted", after, session, data)
            return after

        return self._at_target(self._database.transaction(work))

    def _changeable(self, deployment_id: str, session: Session) -> Deployment:
        """Return the deployment as the transaction reads it. A concurrent change makes one of both retry."""
        found = self._service.get(deployment_id)
        require(Permission.DEPLOY, found["model_name"])
        deployment = self._deployments.get(found["_id"], session)
        if deployment is None:
            raise NotFound("deployment", deployment_id)
        return deployment

    def _revised(
        self,
        before: Deployment,
        plan: Plan,
        config: DeploymentConfig,
        session: Session,
        changes: Fields | None = None,
    ) -> Deployment:
        self._check_room(before, session)
        after = self._deployments.revise(before, plan.routing, config, session, more=changes)
        if after is None:
            raise NotFound("package of export job", ", ".join(plan.export_job_ids))
        if plan.unverified:
            data = {"revision": after["revision"], "exports": plan.unverified}
            status = after["status"]
            self._history.record(after["_id"], "verification_overridden", status, status, data, session)
            self._record("verification_overridden", after, session, data)
        return after

    def _check_room(self, before: Deployment, session: Session) -> None:
        """Check the owner's limit if the deployment has failed, since a new revision starts it again."""
        if before["status"] == DeploymentStatus.FAILED:
            self._limits.check(before["user_id"], session)

    def _record(self, action: str, deployment: Deployment, session: Session, details: Fields) -> None:
        subject, name = deployment["_id"], deployment["model_name"]
        self._audit.record(action, "deployment", subject, session=session, name=name, details=details)


def _switched(delivery: Delivery, *, active: bool) -> Delivery:
    """Return the delivery of a deployment that is activated, or whose URLs end."""
    if active:
        return {**delivery, "due": True}
    return {**delivery, "due": False, "address": delivery["address"] + 1, "expires_at": None}


def _earlier(deployment: Deployment, number: int | None) -> Revision:
    entry = former(deployment, deployment["revisions"])
    if number is not None:
        earlier = (each for each in deployment["revisions"] if each["revision"] == number)
        entry = next(earlier, None) if number != deployment["revision"] else None
    if entry is None:
        kept = [each["revision"] for each in deployment["revisions"]]
        wanted = "An earlier revision with other traffic" if number is None else f"Revision {number}"
        raise Conflict(
            f"{wanted} is not available: the deployment is at revision "
            f"{deployment['revision']}, and {', '.join(map(str, kept))} are kept.",
            revision=deployment["revision"],
            revisions=kept,
        )
    return entry


def _promoted(routing: Routing, name: str) -> Routing:
    if routing["mode"] != SPLIT:
        raise Conflict(
            f"This deployment does not split its traffic; it routes requests by {routing['mode']!r}: "
            "give another export instead.",
            mode=routing["mode"],
        )
    shadow = routing["shadow"]
    found = [member for member in (*routing["members"], shadow) if member and member["name"] == name]
    if not found:
        names = ", ".join(repr(each["name"]) for each in (*routing["members"], shadow) if each)
        raise InvalidField.of("member", f"one of {names}", wrong=repr(name))
    chosen = cast(Member, {field: value for field, value in found[0].items() if field != "share"})
    left = None if shadow and shadow["export_job_id"] == chosen["export_job_id"] else shadow
    if routing["members"] == [chosen]:
        return routing
    return {**routing, "members": [{**chosen, "weight": DEFAULT_WEIGHT}], "shadow": left}
