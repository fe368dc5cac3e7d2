"""The rights that the user of MONGODB_URL needs: those of the role readWrite."""

from collections.abc import Mapping
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

NEEDED = frozenset(
    {
        *("find", "insert", "update", "remove"),
        *("createCollection", "createIndex", "dropIndex", "listCollections", "listIndexes"),
        *("collStats", "dbStats"),
    }
)
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18


def missing(status: Mapping[str, Any], database: str) -> tuple[str, list[str]] | None:
    """The user's name, and the actions that it lacks on the whole database.

    None: no user is signed in, as where MongoDB asks for none, or nothing is missing.

    Args:
        status: the answer of ``connectionStatus`` with its privileges.
    """
    users = status["authInfo"]["authenticatedUsers"]
    if not users:
        return None
    granted = {
        action
        for privilege in status["authInfo"].get("authenticatedUserPrivileges", ())
        if _covers(privilege["resource"], database)
        for action in privilege["actions"]
    }
    lacking = sorted(NEEDED - granted)
    return (users[0]["user"], lacking) if lacking and "anyAction" not in granted else None


def _covers(resource: Mapping[str, Any], database: str) -> bool:
    if resource.get("anyResource"):
        return True
    return resource.get("db") in ("", database) and resource.get("collection") == ""


def advice(user: str, database: str) -> str:
    return (
        f"Grant the role readWrite: db.getSiblingDB('admin').grantRolesToUser('{user}', "
        f"[{{role: 'readWrite', db: '{database}'}}]), or the same on the database that the user is of."
    )


def refusal(exc: PyMongoError) -> str | None:
    """Why MongoDB refuses an operation for want of a right; None where it failed for another reason."""
    if not isinstance(exc, OperationFailure) or exc.code not in (_UNAUTHORIZED, _AUTHENTICATION_FAILED):
        return None
    words = str(exc.details.get("errmsg") if exc.details else exc)[:200]
    return f"MongoDB refuses it: {words}. The user of MONGODB_URL needs the role readWrite on MONGODB_DB"
