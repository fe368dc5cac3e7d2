"""The gates collection: the rules of aliases."""

from collections.abc import Collection

from pymongo import ASCENDING, ReturnDocument

from model_service.actor import actor
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.gates.documents import Gate, Rules, gate_id


class Gates:
    def __init__(self, database: Database, audit: Audit) -> None:
        self._gates = database.gates
        self._audit = audit

    def get(self, name: str, alias: str, session: Session | None = None) -> Gate | None:
        return self._gates.find_one({"_id": gate_id(name, alias)}, session=session)

    def of_name(self, name: str) -> list[Gate]:
        """Return the gates of a name, by alias."""
        return list(self._gates.find({"name": name}, sort=[("alias", ASCENDING)]))

    def gated(self, name: str, aliases: Collection[str], session: Session | None = None) -> list[str]:
        """Return those of the aliases that have a gate."""
        if not aliases:
            return []
        ids = [gate_id(name, alias) for alias in aliases]
        found = self._gates.find({"_id": {"$in": ids}}, {"alias": True}, session=session)
        return sorted(gate["alias"] for gate in found)

    def put(self, name: str, namespace: str, alias: str, rules: Rules, session: Session) -> Gate:
        """Store the rules of an alias in place of those that it has. Returns the gate."""
        at = now()
        gate = self._gates.find_one_and_update(
            {"_id": gate_id(name, alias)},
            {
                "$set": {"rules": rules, "set_by": actor().name, "updated_at": at},
                "$setOnInsert": {"name": name, "namespace": namespace, "alias": alias, "created_at": at},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        assert gate is not None  # of an upsert
        details = {"alias": alias, "rules": _readable(rules)}
        self._audit.record("gate_set", "gate", gate["_id"], name=name, details=details, session=session)
        return gate

    def remove(self, name: str, alias: str, session: Session) -> bool:
        """Remove the gate. Returns whether there was one."""
        gate = self._gates.find_one_and_delete({"_id": gate_id(name, alias)}, session=session)
        if gate is None:
            return False
        details = {"alias": alias, "rules": _readable(gate["rules"])}
        self._audit.record("gate_removed", "gate", gate["_id"], name=name, details=details, session=session)
        return True


def _readable(rules: Rules) -> Fields:
    """Return the rules as JSON."""
    return {
        **rules,
        "metrics": [{**rule, "dataset_id": str(rule["dataset_id"])} for rule in rules["metrics"]],
    }
