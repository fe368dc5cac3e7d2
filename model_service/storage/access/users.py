"""The users collection: who may sign in, and what they may do.

{_id: the user's name, password (scrypt, see services.passwords) or None, roles, namespaces: [{namespace,
roles}], disabled, epoch, created_at, updated_at}. A session belongs to one ``epoch``: a new one ends all
sessions.
"""

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, Document, Session


class DuplicateUser(Exception):
    """The name is taken."""


class Users:
    def __init__(self, database: Database) -> None:
        self._users = database.users

    def insert(self, user: Document, session: Session) -> None:
        """Raises: DuplicateUser."""
        try:
            self._users.insert_one(user, session=session)
        except DuplicateKeyError:
            raise DuplicateUser from None

    def get(self, name: str) -> Document | None:
        return self._users.find_one({"_id": name})

    def page(self, skip: int, limit: int) -> tuple[list[Document], int]:
        """One page by name, and how many there are in all."""
        found = self._users.find({}, sort=[("_id", 1)], skip=skip, limit=limit)
        return list(found), self._users.estimated_document_count()

    def update(self, name: str, changes: Document, session: Session) -> Document | None:
        """Returns the user as it is then; None when there is none."""
        return self._users.find_one_and_update(
            {"_id": name}, {"$set": changes}, return_document=ReturnDocument.AFTER, session=session
        )

    def hold(self, name: str, session: Session) -> bool:
        """Whether there is this user, and will be until the transaction commits: its deletion must wait."""
        return (
            self._users.update_one({"_id": name}, {"$inc": {"held": 1}}, session=session).matched_count == 1
        )

    def delete(self, name: str, session: Session) -> bool:
        return self._users.delete_one({"_id": name}, session=session).deleted_count == 1
