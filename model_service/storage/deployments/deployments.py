"""The deployments collection; ``storage.deployments.documents`` describes its documents.

Inference servers read it (``served``) and record results (``serving_reports``). Both sides change a document
in transactions that read it first, so that of two concurrent changes the later one sees the earlier.
"""

from datetime import datetime

from bson import ObjectId
from pymongo import ReturnDocument, WriteConcern

from model_service.actor import actor
from model_service.states import DEPLOYMENT_TRANSITIONS, DeploymentStatus
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, changed
from model_service.storage.common.pages import NEWEST_FIRST, page_of, within
from model_service.storage.deployments.documents import (
    AutoScaling,
    Delivery,
    Deployment,
    DeploymentConfig,
    DeploymentKey,
    Revision,
    Routing,
    new_revision,
    of_first_member,
)
from model_service.storage.deployments.history import DeploymentHistory
from model_service.storage.deployments.keys import DeploymentKeys
from model_service.storage.deployments.revisions import built_of, kept, marked, packages_of, restored_config

_MOST_ALIKE = 100  # limit for the number at the end of a name; beyond it, names get an id


class Deployments:
    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        audit: Audit,
        keys: DeploymentKeys,
        history: DeploymentHistory,
    ) -> None:
        self._db = database
        self._deployments = database.deployments
        self._blobs = blobs
        self._audit = audit
        self._keys = keys
        self._history = history

    def insert(self, document: Deployment, key: DeploymentKey | None, session: Session) -> bool:
        """Store a new deployment with its first key. Returns False if one of its packages is gone.

        A name derived from a display name gets a number if another deployment has the name.
        """
        if not self._blobs.retain_all(packages_of(document["revisions"]), session):
            return False
        if document.get("display_name") is not None:
            document["name"] = self.free_name(document["name"], session)
        self._deployments.insert_one(document, session=session)
        if key is not None:
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
        if "delivery" in before:
            changes["delivery.due"] = True
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
            details = {"from": before["revision"], "to": entry["revision"], "reason": reason}
            versions = {"revision": after["revision"], "model_version": after["model_version"]}
            self._history.record(
                before["_id"],
                "rolled_back",
                before["status"],
                after["status"],
                {**details, **versions, **data},
                session,
            )
            self._audit.record(
                "rolled_back",
                "deployment",
                before["_id"],
                session=session,
                name=before["model_name"],
                details=details,
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
        status, data = before["status"], {"before": before["config"]["auto_scaling"], **scaling}
        self._history.record(before["_id"], "scaled", status, status, data, session)
        return changed(before, changes)

    def renew(self, before: Deployment, expires_at: datetime, session: Session) -> Deployment:
        """Set until when the package can be downloaded without a credential. Creates no revision."""
        delivery: Delivery = {**before["delivery"], "expires_at": expires_at}
        changes: Fields = {"delivery": delivery, "updated_at": now()}
        self._deployments.update_one({"_id": before["_id"]}, {"$set": changes}, session=session)
        status, data = before["status"], {"expires_at": expires_at}
        self._history.record(before["_id"], "renewed", status, status, data, session)
        return changed(before, changes)

    def count_download(self, deployment_id: str) -> None:
        """Count the start of a download, which does not wait for the journal."""
        counted = {"$inc": {"delivery.downloads": 1}}
        fast = self._deployments.with_options(write_concern=WriteConcern(w=1))
        fast.update_one({"_id": deployment_id, "delivery": {"$exists": True}}, counted)

    def delete(self, deployment_id: str, session: Session) -> Deployment | None:
        """Remove the deployment with its keys and release its packages; its history stays."""
        gone = self._deployments.find_one_and_delete({"_id": deployment_id}, session=session)
        if gone is not None:
            self._keys.delete_of(deployment_id, session)
            self._blobs.release_all([*packages_of(gone["revisions"]), *built_of(gone)], session)
            data = {
                "name": gone["name"],
                "model_name": gone.get("model_name"),
                "user_id": gone.get("user_id"),
            }
            self._history.record(deployment_id, "deleted", gone["status"], None, data, session)
        return gone
