"""The approvals collection: who agrees that a version gets an alias."""

from pymongo import ASCENDING

from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import StoredId
from model_service.storage.gates.documents import Approval


class Approvals:
    def __init__(self, database: Database, audit: Audit) -> None:
        self._approvals = database.approvals
        self._users = database.users
        self._audit = audit

    def of_version(
        self, model_id: StoredId, alias: str | None = None, session: Session | None = None
    ) -> list[Approval]:
        """Return the approvals of a version, for one alias or all, oldest first."""
        query = {"model_id": model_id, **({} if alias is None else {"alias": alias})}
        order = [("created_at", ASCENDING), ("_id", ASCENDING)]
        return list(self._approvals.find(query, sort=order, session=session))

    def put(self, approval: Approval, session: Session) -> None:
        """Store an approval in place of the same user's earlier one for this version and alias."""
        key = {field: approval[field] for field in ("model_id", "alias", "approved_by")}
        self._approvals.delete_one(key, session=session)
        self._approvals.insert_one(approval, session=session)
        self._record("approved", approval, session)

    def withdraw(self, model_id: StoredId, alias: str, user: str, session: Session) -> bool:
        """Remove the user's approval. Returns whether there was one."""
        key = {"model_id": model_id, "alias": alias, "approved_by": user}
        approval = self._approvals.find_one_and_delete(key, session=session)
        if approval is not None:
            self._record("approval_withdrawn", approval, session)
        return approval is not None

    def of_present_users(
        self, model_id: StoredId, alias: str, session: Session | None = None
    ) -> list[Approval]:
        """Return the approvals whose users still exist and are not disabled.

        A user that was deleted and created again has not approved.
        """
        found = self.of_version(model_id, alias, session)
        query = {"_id": {"$in": [approval["approved_by"] for approval in found]}, "disabled": False}
        users = self._users.find(query, {"created_at": True}, session=session)
        since = {user["_id"]: user["created_at"] for user in users}
        return [
            approval
            for approval in found
            if approval["approved_by"] in since and since[approval["approved_by"]] <= approval["created_at"]
        ]

    def _record(self, action: str, approval: Approval, session: Session) -> None:
        details = {
            "alias": approval["alias"],
            "version": approval["version"],
            **({"comment": approval["comment"]} if "comment" in approval else {}),
        }
        self._audit.record(
            action, "model", approval["model_id"], name=approval["name"], details=details, session=session
        )
