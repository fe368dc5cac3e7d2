"""What the service needs of MongoDB: its version, a replica set, and the rights of the service's user."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from model_service.config import CERTIFICATE, SettingsError, Unreachable

# MongoDB 5.0, the first version with snapshot reads outside transactions.
_OLDEST_WIRE_VERSION = 13
# The actions that the service needs in its database; MongoDB's role readWrite includes them all.
_NEEDED_ACTIONS = frozenset(
    {
        "find",
        "insert",
        "update",
        "remove",
        "createCollection",
        "createIndex",
        "listCollections",
        "listIndexes",
        "dbStats",
    }
)
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18

Client = MongoClient[Any]  # type: ignore[explicit-any]


def check_server(client: Client, address: str) -> None:
    """Check the version and the replica set. ``address``: of the server, for messages, without a password.

    Raises:
        SettingsError: the server is not usable, or rejects our user.
        Unreachable: it does not respond now, or its replica set is not initiated.
    """
    with _explained(client, address):
        hello = client.admin.command("hello")
    if hello["maxWireVersion"] < _OLDEST_WIRE_VERSION:
        raise SettingsError(f"MONGODB_URL: {address} is older than MongoDB 5.0, which the service needs.")
    if hello.get("isreplicaset"):
        raise _not_initiated(address)
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise SettingsError(
            f"MONGODB_URL: {address} is a standalone server, which has no transactions. "
            "Start it with --replSet and run rs.initiate() once."
        )


def check_user(client: Client, address: str, database: str) -> None:
    """Check the rights of our user in the database. Raises: as ``check_server``."""
    with _explained(client, address):
        auth_info = client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
        if not auth_info["authenticatedUsers"]:
            client[database].list_collection_names()  # rejected if the server requires a user
            return
    held: set[str] = set()
    for privilege in auth_info["authenticatedUserPrivileges"]:
        resource = privilege["resource"]
        of_database = resource.get("db") in ("", database) and resource.get("collection") == ""
        if of_database or resource.get("anyResource"):
            held.update(privilege["actions"])
    if missing := _NEEDED_ACTIONS - held:
        user = auth_info["authenticatedUsers"][0]["user"]
        raise SettingsError(
            f"MONGODB_URL: the user {user} lacks permission for {', '.join(sorted(missing))} in "
            f"the database {database}: grant it the role readWrite there."
        )


@contextmanager
def _explained(client: Client, address: str) -> Iterator[None]:
    """Raise the driver's errors in the block as errors of the settings."""
    try:
        yield
    except OperationFailure as exc:
        raise SettingsError(f"MONGODB_URL: {address} {_refusal(exc)}") from None
    except ConfigurationError as exc:
        raise SettingsError(f"MONGODB_URL: {address} cannot be used: {_reason(exc)}") from None
    except PyMongoError as exc:
        raise _unreachable(client, address, exc) from None


def _unreachable(client: Client, address: str, exc: PyMongoError) -> SettingsError:
    if CERTIFICATE in str(exc):
        return SettingsError(f"MONGODB_URL: {address} has a certificate that is not trusted (see tlsCAFile)")
    found = client.topology_description.server_descriptions()
    if any(server.server_type_name == "RSGhost" for server in found.values()):
        return _not_initiated(address)
    if not found:
        # The driver drops servers that report another replica set, or none.
        return SettingsError(
            f"MONGODB_URL: {address} is not a member of the replica set that replicaSet names. "
            "Correct it. A standalone server has no transactions: start it with --replSet and "
            "run rs.initiate()."
        )
    return Unreachable(f"MONGODB_URL: no response from {address}: {_reason(exc)}")


def _not_initiated(address: str) -> Unreachable:
    return Unreachable(
        f"MONGODB_URL: the replica set of {address} is not initiated: run rs.initiate(), or "
        "'model-service setup-database'"
    )


def _refusal(exc: OperationFailure) -> str:
    if exc.code == _UNAUTHORIZED:
        return "requires a user and a password: add them, as in mongodb://USER:PASSWORD@HOST/"
    if exc.code == _AUTHENTICATION_FAILED:
        return "does not accept the user and the password: correct them, or create the user"
    return f"cannot be used: {_reason(exc)}"


def _reason(exc: PyMongoError) -> str:
    """Return the driver's message without the topology, which repeats the address many times."""
    return str(exc).partition(", Timeout:")[0][:300]
