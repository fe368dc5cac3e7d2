"""MongoDB: the connection, the replica set, the user's roles, the clock, the disk and the stored data."""

from collections.abc import Iterator

from model_service.config import Settings, SettingsError, Unreachable, is_loopback
from model_service.doctor import clocks
from model_service.doctor.findings import Finding, Setup, error, ok, warning
from model_service.doctor.folders import space
from model_service.storage.common.db import DATABASE_ERRORS, Database, deadline
from model_service.storage.migrations import LATEST, MIGRATIONS
from model_service.storage.migrations.runner import stored_version
from model_service.storage.operations.examination import MongoDBFacts, examine_mongodb, roles

_COMMANDS_S = 20.0


def check(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    database = Database(settings)
    try:
        database.check_server()
        with deadline(_COMMANDS_S):
            yield from _check(database, settings)
    except Unreachable as exc:
        yield error("mongodb", f"{exc}. Start it, or correct its address, the name server or the firewall")
    except SettingsError as exc:
        yield error("mongodb", str(exc))
    except DATABASE_ERRORS as exc:
        yield error("mongodb", f"a command failed: {type(exc).__name__}. Read the log of MongoDB")
    finally:
        database.close()


def _check(database: Database, settings: Settings) -> Iterator[Finding]:
    facts = examine_mongodb(database)
    yield ok("mongodb", f"MongoDB {facts.version} responds and accepts the user")
    yield _replica_set(facts)
    yield clocks.judge("mongodb-clock", "MongoDB", facts.ahead_s)
    try:
        database.check_user()
    except Unreachable:
        raise
    except SettingsError as exc:
        yield error("mongodb-user", str(exc))
        return
    yield _user(database)
    yield _data(database)
    if (free := database.free_disk_bytes()) is not None:  # unknown while the database is empty
        yield space("mongodb-disk", "MongoDB's data: ", free, settings)


def _replica_set(facts: MongoDBFacts) -> Finding:
    name = "mongodb-replica-set"
    if facts.replica_set is None:
        return ok(name, "a sharded cluster, behind mongos")
    found = f"the replica set {facts.replica_set} has {facts.members} member{'s' * (facts.members != 1)}"
    if facts.members == 1:
        return warning(name, f"{found}: without it, the service stops. Use three, see docs/hosts.md")
    if facts.members % 2 == 0:
        return warning(
            name, f"{found}: an even number survives no more losses than one fewer. Add or remove one"
        )
    return ok(name, found)


def _user(database: Database) -> Finding:
    name, held = "mongodb-user", roles(database)
    if not held:
        address = database.client.address
        if address is not None and is_loopback(address[0]):
            return ok(name, "MongoDB requires no user, and only this machine reaches it")
        return warning(
            name,
            "MongoDB requires no user: every program that reaches it may change all data. "
            "Create users, see docs/hosts.md",
        )
    more = [f"{role} on {where}" for role, where in held if (role, where) != ("readWrite", database.name)]
    if more:
        return warning(
            name,
            f"the user has the role {', '.join(more)}. The service only needs readWrite on {database.name}: "
            "give it a user with that role alone",
        )
    return ok(name, f"the user has the role readWrite on {database.name}, and no other")


def _data(database: Database) -> Finding:
    name = "data-version"
    try:
        version = stored_version(database, MIGRATIONS)
    except SettingsError as exc:  # written by a newer version
        return error(name, str(exc))
    if version is None:
        return ok(name, f"the database {database.name} is empty")
    if version < LATEST:
        return warning(
            name,
            f"the data has schema version {version}, and the next start migrates it to {LATEST}. "
            "First write a backup with the installed version, see docs/operations.md",
        )
    return ok(name, f"the data has schema version {version}, that of this program")
