"""The users collection: sign-in and permissions."""

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.access.documents import User
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields


class DuplicateUser(Exception):
    """The name is taken."""


class Users:
    def __init__(self, database: Database) -> None:
        self._users = database.users

    def insert(self, user: User, session: Session) -> None:
        """Store a new user. Raises: DuplicateUser."""
        try:
            self._users.insert_one(user, session=session)
        except DuplicateKeyError:
            raise DuplicateUser from None

    def get(self, name: str) -> User | None:
        return self._users.find_one({"_id": name})

    def page(self, skip: int, limit: int) -> tuple[list[User], int]:
        """Return a page of users by name, and the total number."""
        found = self._users.find({}, sort=[("_id", 1)], skip=skip, limit=limit)
        return list(found), self._users.estimated_document_count()

    def update(self, name: str, changes: Fields, session: Session) -> User | None:
        """Update the user. Returns the changed user, or None if there is none."""
        return self._users.find_one_and_update(
            {"_id": name}, {"$set": changes}, return_document=ReturnDocument.AFTER, session=session
        )

    def hold(self, name: str, session: Session) -> bool:
        """Lock the user against deletion until the transaction commits. Returns False if there is none."""
        return (
            self._users.update_one({"_id": name}, {"$inc": {"held": 1}}, session=session).matched_count == 1
        )

    def delete(self, name: str, session: Session) -> bool:
        return self._users.delete_one({"_id": name}, session=session).deleted_count == 1
