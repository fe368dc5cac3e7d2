"""The age_groups collection: which export of a model is deployed for which ages."""

from pymongo import ASCENDING

from model_service.states import AgeGroupStatus
from model_service.storage.age_groups.documents import AgeGroup
from model_service.storage.age_groups.integer_ids import IntegerIds
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import StoredId

_KIND = "age_group"


class AgeGroups:
    def __init__(self, database: Database, integer_ids: IntegerIds) -> None:
        self._groups = database.age_groups
        self._integer_ids = integer_ids

    def insert(self, group: AgeGroup, session: Session) -> None:
        """Store an age group under the next integer id.

        The id also makes transactions that insert one run one after the other, so what ``overlapping`` has
        found in the same transaction is still true when it commits.
        """
        group["_id"] = self._integer_ids.next(_KIND, session)
        self._groups.insert_one(group, session=session)

    def overlapping(
        self, name: str, environment: str, low: float, high: float, session: Session | None = None
    ) -> list[AgeGroup]:
        """Return the active age groups of a model in an environment that have ages of ``[low, high)``."""
        query = {
            "model_name": name,
            "environment": environment,
            "status": AgeGroupStatus.ACTIVE,
            "age_group_min": {"$lt": high},
            "age_group_max": {"$gt": low},
        }
        return list(self._groups.find(query, session=session).sort("_id", ASCENDING))

    def of(self, name: str, environment: str, session: Session | None = None) -> list[AgeGroup]:
        """Return the active age groups of a model in an environment, in the order of their deployment."""
        query = {"model_name": name, "environment": environment, "status": AgeGroupStatus.ACTIVE}
        return list(self._groups.find(query, session=session).sort("_id", ASCENDING))

    def get(self, number: int, session: Session | None = None) -> AgeGroup | None:
        return self._groups.find_one({"_id": number}, session=session)

    def active(self) -> list[AgeGroup]:
        """Return all active age groups, in the order of their deployment."""
        return list(self._groups.find({"status": AgeGroupStatus.ACTIVE}).sort("_id", ASCENDING))

    def models_of(self, exported_as: str, session: Session | None = None) -> list[StoredId]:
        """Return the ids of the versions that an export was deployed as, deleted ones included."""
        return self._groups.distinct("model_id", {"exported_as": exported_as}, session=session)

    def replace(self, group: AgeGroup, by: int, backup_path: str | None, session: Session) -> None:
        """End an active age group because another one replaces it."""
        kept = {} if backup_path is None else {"backup_path": backup_path}
        self._end(group["_id"], {"status": AgeGroupStatus.REPLACED, "replaced_by": by, **kept}, session)

    def undeploy(self, number: int, session: Session) -> bool:
        """End an active age group. Returns whether it was active."""
        return self._end(number, {"status": AgeGroupStatus.UNDEPLOYED}, session)

    def _end(self, number: int, changes: dict[str, object], session: Session) -> bool:
        query = {"_id": number, "status": AgeGroupStatus.ACTIVE}
        done = self._groups.update_one(query, {"$set": {**changes, "ended_at": now()}}, session=session)
        return done.modified_count == 1
