"""The deployments collection; ``storage.deployments.documents`` describes its documents.

Inference servers read it (``served``) and record results. Both sides change a document in transactions that
read it first, so that of two concurrent changes the later one sees the earlier.
"""

from collections.abc import Sequence

from bson import ObjectId
from pymongo import ReturnDocument

from model_service.actor import actor
from model_service.states import DEPLOYMENT_TRANSITIONS, SERVED, DeploymentStatus
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, changed
from model_service.storage.common.pages import NEWEST_FIRST, page_of, within
from model_service.storage.deployments.documents import (
    AutoScaling,
    Deployment,
    DeploymentConfig,
    DeploymentKey,
    DeploymentLogEntry,
    Revision,
    Routing,
    ServedDeployment,
    new_revision,
    of_first_member,
)
from model_service.storage.deployments.history import DeploymentHistory
from model_service.storage.deployments.keys import DeploymentKeys
from model_service.storage.deployments.logs import DeploymentLogs
from model_service.storage.deployments.revisions import former, kept, marked, packages_of, restored_config
from model_service.storage.deployments.served import ServedDeployments

_MOST_ALIKE = 100  # limit for the number at the end of a name; beyond it, names get an id
_COMING = (DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING)


class Deployments:
    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        audit: Audit,
        keys: DeploymentKeys,
        history: DeploymentHistory,
        logs: DeploymentLogs,
        served: ServedDeployments,
    ) -> None:
        self._db = database
        self._deployments = database.deployments
        self._blobs = blobs
        self._audit = audit
        self._keys = keys
        self._history = history
        self._logs = logs
        self._served = served

    def insert(self, document: Deployment, key: DeploymentKey, session: Session) -> bool:
        """Store a new deployment with its first key. Returns False if one of its packages is gone.

        A name derived from a display name gets a number if another deployment has the name.
        """
        if not self._blobs.retain_all(packages_of(document["revisions"]), session):
            return False
        if document.get("display_name") is not None:
            document["name"] = self.free_name(document["name"], session)
        self._deployments.insert_one(document, session=session)
        self._keys.insert(key, session)
        return True

    def get(self, deployment_id: str, session: Session | None = None) -> Deployment | None:
        return self._deployments.find_one({"_id": deployment_id}, session=session)

    def named(self, query: Fields, namespaces: list[str] | None) -> list[Deployment]:
        """Return the newest matches, up to ten, in these namespaces, or in any."""
        return list(self._deployments.find({**within(namespaces), **query}, sort=NEWEST_FIRST, limit=10))

    def newest_names(self, namespaces: list[str] | None) -> list[str]:
        """Return the names of the 200 newest deployments in these namespaces, or of all."""
        found = self._deployments.find(within(namespaces), {"name": True}, sort=NEWEST_FIRST, limit=200)
        return [deployment["name"] for deployment in found]

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[Deployment], int]:
        return page_of(self._deployments, query, skip, limit, fields={"revisions": False})

    def free_name(self, name: str, session: Session) -> str:
        """Return ``name``, or ``name-2`` and so on with the lowest free number.

        Two transactions that derive the same name conflict in a unique index, and the later one runs again.
        """
        names = [name, *(f"{name}-{number}" for number in range(2, _MOST_ALIKE))]
        found = self._deployments.find({"name": {"$in": names}}, {"name": True}, session=session)
        taken = {each["name"] for each in found}
        return next((each for each in names if each not in taken), f"{name}-{ObjectId()}")

    def hold(self, deployment_id: str, session: Session) -> Deployment | None:
        """Return the deployment and lock it against deletion until the commit; None if it is gone."""
        return self._deployments.find_one_and_update(
            {"_id": deployment_id}, {"$set": {"updated_at": now()}}, session=session
        )

    def move(self, deployment_id: str, to: DeploymentStatus, **changes: object) -> Deployment | None:
        """Change the status by compare-and-set and record it in the history.

        Returns None if the deployment is gone, or if its status does not allow the change.
        """

        def work(session: Session) -> Deployment | None:
            return self.shift(deployment_id, to, str(to), session, changes=changes, data=changes)

        return self._db.transaction(work)

    def shift(
        self,
        deployment_id: str,
        to: DeploymentStatus,
        event: str,
        session: Session,
        *,
        changes: Fields,
        data: Fields,
    ) -> Deployment | None:
        """``move`` within a transaction. Returns the document before the change."""
        sources = [status for status, targets in DEPLOYMENT_TRANSITIONS.items() if to in targets]
        before = self._deployments.find_one_and_update(
            {"_id": deployment_id, "status": {"$in": sources}},
            {"$set": {"status": to, "updated_at": now(), **changes}},
            return_document=ReturnDocument.BEFORE,
            session=session,
        )
        if before is not None:
            self._history.record(deployment_id, event, before["status"], to, data, session)
        return before

    def revise(
        self,
        before: Deployment,
        routing: Routing,
        config: DeploymentConfig,
        session: Session,
        *,
        revisions: list[Revision] | None = None,
        more: Fields | None = None,
    ) -> Deployment | None:
        """Create a new revision of a document read in this transaction; servers load it in the background.

        A failed deployment starts again. Returns the document after the change; None if a package is gone.

        Args:
            revisions: the earlier revisions; None: those of ``before``.
            more: further fields to change.
        """
        at, number = now(), before["revision"] + 1
        entry = new_revision(number, routing, config, actor().name, at)
        revisions = [*(before["revisions"] if revisions is None else revisions), entry]
        left = kept(revisions, before["live_revision"])
        if not self._blobs.retain_all(packages_of([entry]), session):
            return None
        self._blobs.release_all(packages_of(old for old in revisions if old not in left), session)
        changes: dict[str, object] = {
            **(more or {}),
            "routing": routing,
            "config": config,
            **of_first_member(routing),
            "revision": number,
            "revisions": left,
            "error_message": None,
            "updated_at": at,
        }
        if before["status"] == DeploymentStatus.FAILED:
            changes["status"] = DeploymentStatus.DEPLOYING
        return self._deployments.find_one_and_update(
            {"_id": before["_id"]},
            {"$set": changes, "$unset": {"load_attempts": ""}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )

    def restore(
        self, before: Deployment, entry: Revision, session: Session, *, reason: str | None, data: Fields
    ) -> Deployment | None:
        """Make an earlier revision the newest again, and mark the present one as rolled back.

        Returns the document after the change; None if a package is gone.
        """
        revisions = marked(before["revisions"], before["revision"], rolled_back=True)
        config = restored_config(entry, before)
        after = self.revise(before, entry["routing"], config, session, revisions=revisions)
        if after is not None:
            told: dict[str, object] = {
                "from": before["revision"],
                "to": entry["revision"],
                "revision": after["revision"],
                "reason": reason,
                "model_version": after["model_version"],
                **data,
            }
            self._history.record(
                before["_id"], "rolled_back", before["status"], after["status"], told, session
            )
            self._audit.record(
                "rolled_back",
                "deployment",
                before["_id"],
                session=session,
                name=before["model_name"],
                details={key: told[key] for key in ("from", "to", "reason")},
            )
        return after

    def set_scaling(self, before: Deployment, scaling: AutoScaling, session: Session) -> Deployment:
        """Change the number of replicas. It belongs to no revision, so a rollback does not change it."""
        at = now()
        config: DeploymentConfig = {**before["config"], "auto_scaling": scaling}
        changes: dict[str, object] = {
            "config": config,
            "revisions": marked(before["revisions"], before["revision"], config=config),
            "updated_at": at,
        }
        self._deployments.update_one({"_id": before["_id"]}, {"$set": changes}, session=session)
        status, told = before["status"], {"before": before["config"]["auto_scaling"], **scaling}
        self._history.record(before["_id"], "scaled", status, status, told, session)
        return changed(before, changes)

    def delete(self, deployment_id: str, session: Session) -> Deployment | None:
        """Remove the deployment with its keys and release its packages; its history stays."""
        gone = self._deployments.find_one_and_delete({"_id": deployment_id}, session=session)
        if gone is not None:
            self._keys.delete_of(deployment_id, session)
            self._blobs.release_all(packages_of(gone["revisions"]), session)
            told = {
                "name": gone["name"],
                "model_name": gone.get("model_name"),
                "user_id": gone.get("user_id"),
            }
            self._history.record(deployment_id, "deleted", gone["status"], None, told, session)
        return gone

    # Queries and reports of the inference servers.

    def served(self) -> list[ServedDeployment]:
        """Return the deployments for an inference server; see ``storage.deployments.served``."""
        return self._served.read()

    def made_live(self, deployment_id: str, revision: int) -> bool:
        """Record that a server serves this revision. True for the first report; others change nothing.

        Returns False too if the revision is no longer the newest, or the deployment is not to be served.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            new = before["live_revision"] != revision
            if not new and before["status"] == DeploymentStatus.ACTIVE:
                return False
            at, to = now(), DeploymentStatus.ACTIVE
            changes: dict[str, object] = {"status": to, "error_message": None, "updated_at": at}
            if new:
                live = marked(before["revisions"], revision, live_at=at)
                changes |= {"live_revision": revision, "revisions": live}
            if before["status"] != to:
                changes["deployed_at"] = at
            self._deployments.update_one({"_id": deployment_id}, {"$set": changes}, session=session)
            event = "updated" if new and before["live_revision"] is not None else "deployed"
            told = {"revision": revision, "model_version": before["model_version"]}
            by = before["revisions"][-1]["created_by"] if new else None
            self._history.record(deployment_id, event, before["status"], to, told, session, by=by)
            return True

        return self._db.transaction(work)

    def update_failed(self, deployment_id: str, revision: int, message: str) -> bool:
        """Record that this revision's packages are bad. Returns True for the first report.

        An active deployment keeps serving its previous revision; any other becomes ``failed``. False if
        the revision is no longer the newest, or if another server serves it.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision:
                return False
            known = any(each["failed"] for each in before["revisions"] if each["revision"] == revision)
            serving = before["status"] == DeploymentStatus.ACTIVE
            if serving and (known or before["live_revision"] == revision):
                return False
            if not serving and before["status"] not in _COMING:
                return False
            to = before["status"] if serving else DeploymentStatus.FAILED
            changes = {
                "status": to,
                "error_message": message,
                "revisions": marked(before["revisions"], revision, failed=True),
                "updated_at": now(),
            }
            # The load attempts belong to this revision. The next one starts without any.
            update = {"$set": changes, "$unset": {"load_attempts": ""}}
            self._deployments.update_one({"_id": deployment_id}, update, session=session)
            event = "update_failed" if serving else "failed"
            told = {"revision": revision, "error_message": message}
            self._history.record(deployment_id, event, before["status"], to, told, session)
            return True

        return self._db.transaction(work)

    def roll_back_to_former(self, deployment_id: str, revision: int, reason: str, data: Fields) -> bool:
        """Roll back, with a new revision, to the newest earlier one that was served with other traffic.

        Returns False if this revision is no longer the newest, or there is no earlier one.

        Args:
            data: the measured values, for the history.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            entry = former(before, before["revisions"])
            if entry is None:
                return False
            return self.restore(before, entry, session, reason=reason, data=data) is not None

        return self._db.transaction(work)

    def suspend(self, deployment_id: str, revision: int, reason: str) -> bool:
        """Stop serving the deployment until it is activated or revised; ``reason`` becomes its error message.

        Returns False if it has another revision by now, or is not served any more.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            changes = {"error_message": reason, "deactivated_at": now()}
            told = {"revision": revision, "error_message": reason}
            to = DeploymentStatus.INACTIVE
            self.shift(deployment_id, to, "suspended", session, changes=changes, data=told)
            return True

        return self._db.transaction(work)

    def log(self, entries: Sequence[DeploymentLogEntry]) -> None:
        """Store a server's log entries; see ``storage.deployments.logs``."""
        self._logs.insert(entries)

    def set_load_attempts(self, deployment_id: str, server: str, attempts: int) -> None:
        """Store how many loads a server began without finishing. ``server`` is a name without dots.

        The number outlives the server, so that a package that crashes it is not loaded again and again.
        """
        field = f"load_attempts.{server}"
        change = {"$set": {field: attempts}} if attempts else {"$unset": {field: ""}}
        self._deployments.update_one({"_id": deployment_id}, change)
