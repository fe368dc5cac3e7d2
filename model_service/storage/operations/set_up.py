"""The set-up of MongoDB for the service: the replica set, and the service's user."""

import time
from dataclasses import dataclass

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, ConnectionFailure, InvalidURI, OperationFailure
from pymongo.uri_parser import parse_uri

from model_service.config import SettingsError, Unreachable

_PAUSE_S = 0.2
_CONNECT_MS = 2_000
# MongoDB's error codes.
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_ALREADY_INITIALIZED = 23
_USER_NOT_FOUND, _USER_EXISTS = 11, 51003

Client = MongoClient[dict[str, object]]


@dataclass(frozen=True)
class _Target:
    """The parts of a URL; ``users_in`` is the database that has its user."""

    replica_set: str | None
    nodes: list[tuple[str, int]]
    user: str | None
    password: str | None
    users_in: str


def set_up_database(url: str, admin_url: str, database: str, *, wait_s: float) -> list[str]:
    """Initiate the replica set and create the user that ``url`` names. Can be repeated; returns what it did.

    The members are the hosts of ``url``. A user who exists gets the password of ``url``.

    Args:
        url: MONGODB_URL, with ``replicaSet`` and, if MongoDB requires one, a user.
        admin_url: the URL of one member, with a user who may do both.
        wait_s: how long to wait for MongoDB to accept connections, and for a primary.

    Raises:
        SettingsError: a URL is wrong, or MongoDB rejects the administrator or a command.
        Unreachable: MongoDB did not respond, or had no primary, in that time.
    """
    wanted = _parse("MONGODB_URL", url)
    if not wanted.replica_set:
        raise SettingsError("MONGODB_URL must name the replica set, as in mongodb://HOST/?replicaSet=rs0")
    _parse("MONGODB_ADMIN_URL", admin_url)
    try:
        client: Client = MongoClient(admin_url, directConnection=True, serverSelectionTimeoutMS=_CONNECT_MS)
    except ConfigurationError as exc:
        raise SettingsError(f"MONGODB_ADMIN_URL must name one member of the replica set: {exc}") from None
    with client:
        done = _initiate(client, wanted.replica_set, wanted.nodes, time.monotonic() + wait_s)
        if wanted.user:
            done.append(_give_access(client, wanted, database))
    return done


def _parse(variable: str, url: str) -> _Target:
    try:
        found = parse_uri(url)
    except (InvalidURI, ConfigurationError, ValueError) as exc:
        raise SettingsError(f"{variable} is not the address of a MongoDB: {exc}") from None
    options = found["options"]
    users_in = options.get("authSource") or found["database"] or "admin"
    return _Target(
        options.get("replicaSet"), found["nodelist"], found["username"], found["password"], users_in
    )


def _initiate(client: Client, name: str, nodes: list[tuple[str, int]], deadline: float) -> list[str]:
    """Initiate the replica set unless it exists, and wait until the member is a primary or has one."""
    done: list[str] = []
    while True:
        try:
            hello = client.admin.command("hello")
            if hello.get("isreplicaset"):  # started with --replSet, and not initiated
                hosts = [f"{host}:{port}" for host, port in nodes]
                members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
                try:
                    client.admin.command("replSetInitiate", {"_id": name, "members": members})
                    done.append(f"initiated the replica set {name}")
                except OperationFailure as exc:
                    if exc.code != _ALREADY_INITIALIZED:  # by another set-up at the same time
                        raise
            elif "setName" not in hello:
                raise SettingsError("MONGODB_ADMIN_URL: a standalone server. Start MongoDB with --replSet")
            elif hello.get("isWritablePrimary"):
                return done
            # A member that was just elected is the primary, and accepts writes a moment later.
            elif hello.get("primary") not in (None, hello.get("me")):
                raise SettingsError(
                    f"MONGODB_ADMIN_URL: the primary is {hello['primary']}. Name that member instead"
                )
            reason = "it has no primary yet"
        except ConnectionFailure as exc:
            reason = _reason(exc)
        except OperationFailure as exc:
            raise _rejected(exc, f"the replica set {name} cannot be initiated") from None
        if time.monotonic() > deadline:
            raise Unreachable(f"MONGODB_ADMIN_URL: MongoDB is not ready: {reason}")
        time.sleep(_PAUSE_S)


def _give_access(client: Client, wanted: _Target, database: str) -> str:
    """Create or update the user of MONGODB_URL, with the role readWrite on the service's database."""
    users, roles = client[wanted.users_in], [{"role": "readWrite", "db": database}]
    failure: OperationFailure | None = None
    # The second updateUser is needed if another set-up creates the user at the same time.
    for command in ("updateUser", "createUser", "updateUser"):
        try:
            users.command(command, wanted.user, pwd=wanted.password, roles=roles)
        except OperationFailure as exc:
            failure = exc
            if exc.code not in (_USER_NOT_FOUND, _USER_EXISTS):
                break
        except ConnectionFailure as exc:
            raise Unreachable(f"MONGODB_ADMIN_URL: MongoDB does not respond: {_reason(exc)}") from None
        else:
            done = "created" if command == "createUser" else "updated"
            return f"{done} the user {wanted.user}, readWrite on {database}"
    assert failure is not None
    raise _rejected(failure, f"the user {wanted.user} cannot be created or changed")


def _reason(exc: ConnectionFailure) -> str:
    return str(exc).partition(", Timeout:")[0][:300]


def _rejected(exc: OperationFailure, consequence: str) -> SettingsError:
    """The error for a command that MongoDB rejected, with MongoDB's message."""
    message = (exc.details or {}).get("errmsg", str(exc))
    if exc.code in (_UNAUTHORIZED, _AUTHENTICATION_FAILED):
        consequence = "MongoDB rejects the administrator"
    return SettingsError(f"MONGODB_ADMIN_URL: {consequence}: {message}")
