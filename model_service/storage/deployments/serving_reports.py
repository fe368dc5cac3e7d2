"""What targets report about deployments: inference servers that serve them, workers that build packages."""

from collections.abc import Sequence

from model_service.states import SERVED, DeploymentStatus
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.deployments.deployments import Deployments
from model_service.storage.deployments.documents import DeploymentLogEntry
from model_service.storage.deployments.history import DeploymentHistory
from model_service.storage.deployments.logs import DeploymentLogs
from model_service.storage.deployments.revisions import former, marked

_COMING = (DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING)


class ServingReports:
    def __init__(
        self,
        database: Database,
        deployments: Deployments,
        history: DeploymentHistory,
        logs: DeploymentLogs,
    ) -> None:
        self._db = database
        self._documents = database.deployments
        self._deployments = deployments
        self._history = history
        self._logs = logs

    def start_deploying(self, deployment_id: str) -> None:
        """Record that a server loads a pending deployment; of another one, nothing."""
        self._deployments.move(deployment_id, DeploymentStatus.DEPLOYING)

    def made_live(self, deployment_id: str, revision: int) -> bool:
        """Record that a server serves this revision. True for the first report; others change nothing.

        Returns False too if the revision is no longer the newest, or the deployment is not to be served.
        """
        return self._db.transaction(lambda session: self.make_live(deployment_id, revision, session))

    def make_live(
        self, deployment_id: str, revision: int, session: Session, more: Fields | None = None
    ) -> bool:
        """``made_live`` within a transaction. ``more``: further fields to change."""
        before = self._deployments.get(deployment_id, session)
        if before is None or before["revision"] != revision or before["status"] not in SERVED:
            return False
        new = before["live_revision"] != revision
        if not new and before["status"] == DeploymentStatus.ACTIVE:
            return False
        at, to = now(), DeploymentStatus.ACTIVE
        changes: dict[str, object] = {"status": to, "error_message": None, "updated_at": at, **(more or {})}
        if new:
            live = marked(before["revisions"], revision, live_at=at)
            changes |= {"live_revision": revision, "revisions": live}
        if before["status"] != to:
            changes["deployed_at"] = at
        self._documents.update_one({"_id": deployment_id}, {"$set": changes}, session=session)
        event = "updated" if new and before["live_revision"] is not None else "deployed"
        data = {"revision": revision, "model_version": before["model_version"]}
        by = before["revisions"][-1]["created_by"] if new else None
        self._history.record(deployment_id, event, before["status"], to, data, session, by=by)
        return True

    def update_failed(self, deployment_id: str, revision: int, message: str) -> bool:
        """Record that this revision's packages are bad. Returns True for the first report.

        An active deployment keeps serving its previous revision; any other becomes ``failed``. False if
        the revision is no longer the newest, or if another server serves it.
        """
        return self._db.transaction(
            lambda session: self.fail_revision(deployment_id, revision, message, session)
        )

    def fail_revision(self, deployment_id: str, revision: int, message: str, session: Session) -> bool:
        """``update_failed`` within a transaction."""
        before = self._deployments.get(deployment_id, session)
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
            **({"delivery.due": False} if "delivery" in before else {}),
        }
        # The load attempts belong to this revision. The next one starts without any.
        update = {"$set": changes, "$unset": {"load_attempts": ""}}
        self._documents.update_one({"_id": deployment_id}, update, session=session)
        event = "update_failed" if serving else "failed"
        data = {"revision": revision, "error_message": message}
        self._history.record(deployment_id, event, before["status"], to, data, session)
        return True

    def roll_back_to_former(self, deployment_id: str, revision: int, reason: str, data: Fields) -> bool:
        """Roll back, with a new revision, to the newest earlier one that was served with other traffic.

        Returns False if this revision is no longer the newest, or there is no earlier one.

        Args:
            data: the measured values, for the history.
        """

        def work(session: Session) -> bool:
            before = self._deployments.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            entry = former(before, before["revisions"])
            if entry is None:
                return False
            return self._deployments.restore(before, entry, session, reason=reason, data=data) is not None

        return self._db.transaction(work)

    def suspend(self, deployment_id: str, revision: int, reason: str) -> bool:
        """Stop serving the deployment until it is activated or revised; ``reason`` becomes its error message.

        Returns False if it has another revision by now, or is not served any more.
        """

        def work(session: Session) -> bool:
            before = self._deployments.get(deployment_id, session)
            if before is None or before["revision"] != revision or before["status"] not in SERVED:
                return False
            changes = {"error_message": reason, "deactivated_at": now()}
            data = {"revision": revision, "error_message": reason}
            to = DeploymentStatus.INACTIVE
            self._deployments.shift(deployment_id, to, "suspended", session, changes=changes, data=data)
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
        self._documents.update_one({"_id": deployment_id}, change)
