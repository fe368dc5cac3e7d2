"""The integer_ids and integer_counters collections: stable integers for documents with other ids."""

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, Session


class IntegerIds:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids = database.integer_ids
        self._counters = database.integer_counters

    def of(self, kind: str, subject_id: str) -> int:
        """Return the integer id of a document, which gets one at the first call. Starts at 1."""

        def work(session: Session) -> int:
            found = self._ids.find_one({"kind": kind, "subject_id": subject_id}, session=session)
            if found is not None:
                return found["number"]
            number = self.next(kind, session)
            self._ids.insert_one(
                {"_id": f"{kind}:{number}", "kind": kind, "number": number, "subject_id": subject_id},
                session=session,
            )
            return number

        while True:
            try:
                return self._database.transaction(work)
            except DuplicateKeyError:
                continue  # another process gave it one meanwhile

    def subject(self, kind: str, number: int) -> str | None:
        """Return the id of the document with this integer id; None: there is none."""
        found = self._ids.find_one({"_id": f"{kind}:{number}"})
        return found["subject_id"] if found is not None else None

    def next(self, kind: str, session: Session) -> int:
        """Return the next integer of a kind. Concurrent transactions that call it run one after the other."""
        counter = self._counters.find_one_and_update(
            {"_id": kind},
            {"$inc": {"last": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        assert counter is not None  # it is inserted if it is missing
        return counter["last"]
