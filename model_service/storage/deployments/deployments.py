"""The deployments collection; what is in its documents is told in ``storage.deployments.documents``.

The inference servers read it (``served``) and write how it went; both sides change a document in transactions
that read it first, so that of two changes at once the later one sees the earlier.
"""

from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument

from model_service.actor import actor
from model_service.states import DEPLOYMENT_TRANSITIONS, SERVED, DeploymentStatus
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Document, Session, now
from model_service.storage.common.pages import NEWEST_FIRST, page_of, within
from model_service.storage.deployments.documents import (
    former,
    kept,
    marked,
    new_revision,
    of_first_member,
    packages_of,
    restored_config,
)
from model_service.storage.deployments.history import DeploymentHistory
from model_service.storage.deployments.keys import DeploymentKeys
from model_service.storage.deployments.logs import DeploymentLogs
from model_service.storage.deployments.served import ServedDeployments

_MOST_ALIKE = 100  # equal names with a number behind them; more get an id
_COMING = (DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING)


class Deployments:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._deployments = database.deployments
        self._blobs = Blobs(database)
        self._keys = DeploymentKeys(database)
        self._logs = DeploymentLogs(database)
        self._history = DeploymentHistory(database)
        self._audit = Audit(database)
        self._served = ServedDeployments(database)

    def insert(self, document: Document, key: Document, session: Session) -> bool:
        """Store a new deployment with its first key; False when a package of it is gone.

        A name that was derived from a display name gets a number where another deployment has it.
        """
        if not self._blobs.retain_all(packages_of(document["revisions"]), session):
            return False
        if document.get("display_name") is not None:
            document["name"] = self.free_name(document["name"], session)
        self._deployments.insert_one(document, session=session)
        self._keys.insert(key, session)
        return True

    def get(self, deployment_id: str, session: Session | None = None) -> Document | None:
        return self._deployments.find_one({"_id": deployment_id}, session=session)

    def named(self, query: Document, namespaces: list[str] | None) -> list[Document]:
        """Up to ten that match and lie in these namespaces, or in any, the newest first."""
        return list(self._deployments.find(within(namespaces) | query, sort=NEWEST_FIRST, limit=10))

    def newest_names(self, namespaces: list[str] | None) -> list[str]:
        """The names of the 200 newest in these namespaces, or of all."""
        found = self._deployments.find(within(namespaces), {"name": True}, sort=NEWEST_FIRST, limit=200)
        return [deployment["name"] for deployment in found]

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        return page_of(self._deployments, query, skip, limit, fields={"revisions": False})

    def free_name(self, name: str, session: Session) -> str:
        """``name``, or with the lowest number that makes it unique: ``name-2``.

        Two transactions that derive one name conflict in a unique index, and the later one runs again.
        """
        names = [name, *(f"{name}-{number}" for number in range(2, _MOST_ALIKE))]
        found = self._deployments.find({"name": {"$in": names}}, {"name": True}, session=session)
        taken = {each["name"] for each in found}
        return next((each for each in names if each not in taken), f"{name}-{ObjectId()}")

    def hold(self, deployment_id: str, session: Session) -> Document | None:
        """The deployment, which nobody can delete before the transaction commits; None when it is gone."""
        return self._deployments.find_one_and_update(
            {"_id": deployment_id}, {"$set": {"updated_at": now()}}, session=session
        )

    def move(self, deployment_id: str, to: DeploymentStatus, **changes: Any) -> Document | None:
        """Change the status by compare-and-set and write it into the history.

        None when the deployment is gone, or in a status that ``to`` may not follow.
        """

        def work(session: Session) -> Document | None:
            return self.shift(deployment_id, to, str(to), session, changes=changes, data=changes)

        return self._db.transaction(work)

    def shift(
        self,
        deployment_id: str,
        to: DeploymentStatus,
        event: str,
        session: Session,
        *,
        changes: Document,
        data: Document,
    ) -> Document | None:
        """``move`` as part of a transaction. Returns the document as it was."""
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
        self, before: Document, routing: Document, config: Document, session: Session, **changes: Any
    ) -> Document | None:
        """Make another revision of what this transaction has read, which the servers then load aside.

        One that failed is tried again. Returns the document after it; None when a package is gone.
        """
        at, number = now(), before["revision"] + 1
        entry = new_revision(number, routing, config, actor().name, at)
        revisions = [*changes.pop("revisions", before["revisions"]), entry]
        left = kept(revisions, before["live_revision"])
        if not self._blobs.retain_all(packages_of([entry]), session):
            return None
        self._blobs.release_all(packages_of(old for old in revisions if old not in left), session)
        changes |= {
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
        self, before: Document, entry: Document, session: Session, *, reason: str | None, data: Document
    ) -> Document | None:
        """Make an earlier revision the newest again; the present one is not gone back to by itself.

        Returns the document after it; None when a package is gone.
        """
        revisions = marked(before["revisions"], before["revision"], rolled_back=True)
        config = restored_config(entry, before)
        after = self.revise(before, entry["routing"], config, session, revisions=revisions)
        if after is not None:
            told = {"from": before["revision"], "to": entry["revision"], "revision": after["revision"]}
            told |= {"reason": reason, "model_version": after["model_version"], **data}
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

    def set_scaling(self, before: Document, scaling: Document, session: Session) -> Document:
        """How many replicas there are is of no revision: to go back to one does not change it."""
        at, config = now(), before["config"] | {"auto_scaling": scaling}
        changes = {
            "config": config,
            "revisions": marked(before["revisions"], before["revision"], config=config),
            "updated_at": at,
        }
        self._deployments.update_one({"_id": before["_id"]}, {"$set": changes}, session=session)
        status, told = before["status"], {"before": before["config"]["auto_scaling"], **scaling}
        self._history.record(before["_id"], "scaled", status, status, told, session)
        return before | changes

    def delete(self, deployment_id: str, session: Session) -> Document | None:
        """Remove it with its keys, and let its packages go; its history stays."""
        gone = self._deployments.find_one_and_delete({"_id": deployment_id}, session=session)
        if gone is not None:
            self._keys.delete_of(deployment_id, session)
            self._blobs.release_all(packages_of(gone["revisions"]), session)
            told = {field: gone.get(field) for field in ("name", "model_name", "user_id")}
            self._history.record(deployment_id, "deleted", gone["status"], None, told, session)
        return gone

    # What the inference servers ask and tell.

    def served(self) -> list[Document]:
        """What an inference server is to host; see ``storage.deployments.served``."""
        return self._served.read()

    def made_live(self, deployment_id: str, revision: int) -> bool:
        """Say that a server serves this revision. True for the first to say so; later ones change nothing.

        False also where the revision is no longer the newest, or nobody is to serve the deployment.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            new = before["live_revision"] != revision
            if not new and before["status"] == DeploymentStatus.ACTIVE:
                return False
            at, to = now(), DeploymentStatus.ACTIVE
            changes: Document = {"status": to, "error_message": None, "updated_at": at}
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
        """Say that this revision's packages are proven to be bad. True for the first to say so.

        What is active goes on serving the revision before; what is not becomes ``failed``. False where the
        revision is no longer the newest, or another server serves it.
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
            # The crashes were this revision's: the one that comes back for it has none.
            update = {"$set": changes, "$unset": {"load_attempts": ""}}
            self._deployments.update_one({"_id": deployment_id}, update, session=session)
            event = "update_failed" if serving else "failed"
            told = {"revision": revision, "error_message": message}
            self._history.record(deployment_id, event, before["status"], to, told, session)
            return True

        return self._db.transaction(work)

    def roll_back_to_former(self, deployment_id: str, revision: int, reason: str, data: Document) -> bool:
        """Go back, by a new revision, to the newest earlier one that was served with other traffic.

        False where this revision is no longer the newest, or there is nothing to go back to.

        Args:
            data: what was measured; for the history.
        """

        def work(session: Session) -> bool:
            before = self.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            entry = former(before)
            if entry is None:
                return False
            return self.restore(before, entry, session, reason=reason, data=data) is not None

        return self._db.transaction(work)

    def suspend(self, deployment_id: str, revision: int, reason: str) -> bool:
        """Serve it no more until somebody activates or revises it; ``reason`` becomes its error message.

        False where it has another revision by now, or is served no more.
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

    def log(self, entries: Sequence[Document]) -> None:
        """Keep what a server has to tell; see ``storage.deployments.logs``."""
        self._logs.insert(entries)

    def set_load_attempts(self, deployment_id: str, server: str, attempts: int) -> None:
        """How many loads an inference server began and did not end. ``server`` is a name without dots.

        It outlives the server, so that a package that kills it is not tried for ever.
        """
        field = f"load_attempts.{server}"
        change = {"$set": {field: attempts}} if attempts else {"$unset": {field: ""}}
        self._deployments.update_one({"_id": deployment_id}, change)
