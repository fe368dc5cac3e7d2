"""A real mongod as a replica set of one member, so that transactions and change streams exist everywhere."""

import json
import os
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from model_service.embedded.binaries import find_mongod

_SET = "model-service"
_CACHE_PART = 8
_LEAST_CACHE_GB = 0.5
_TRANSACTION_S = 20
_LEVELS = {"W": "warning", "E": "error", "F": "critical"}


def argv(folder: Path, port: int, cache_gb: float | None = None) -> list[str]:
    """Journaled without a flag: since 4.0 a replica set always is, and 6.1 refuses ``--journal``.

    Weights do not compress: trying to, in the journal and in the oplog, costs half of an upload's time.

    Args:
        cache_gb: an eighth of the machine's memory where it is None.

    Raises:
        MissingBinary: no mongod on this machine.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    return [
        str(find_mongod()),
        *("--dbpath", str(folder)),
        *("--bind_ip", "127.0.0.1"),
        *("--port", str(port)),
        "--nounixsocket",
        *("--replSet", _SET),
        *("--wiredTigerCacheSizeGB", str(cache_gb or _default_cache_gb())),
        *("--wiredTigerJournalCompressor", "none"),
        *("--wiredTigerCollectionBlockCompressor", "none"),
        # Of a process that was killed in one: until then its documents cannot be written by anybody else.
        *("--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION_S}"),
    ]


def _default_cache_gb() -> float:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_LEAST_CACHE_GB, round(memory / _CACHE_PART / 2**30, 2))


def url(port: int) -> str:
    """With ``replicaSet``: while mongod restarts, a driver waits for its primary instead of failing."""
    return f"mongodb://127.0.0.1:{port}/?replicaSet={_SET}"


def is_primary(port: int) -> bool:
    """Whether mongod takes writes. Makes the replica set on the first call, and follows a changed port.

    Answers within about half a second, so that it can be polled.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=300, socketTimeoutMS=500
    )
    try:
        hello = client.admin.command("hello")
        if hello.get("isreplicaset"):  # started with --replSet, but in no set: none made, or not found in it
            _claim(client, f"127.0.0.1:{port}")
        return bool(hello.get("isWritablePrimary"))
    except PyMongoError:
        return False
    finally:
        client.close()


def _claim(client: MongoClient[dict[str, Any]], host: str) -> None:
    stored = client.local["system.replset"].find_one()
    if stored is None:
        client.admin.command("replSetInitiate", {"_id": _SET, "members": [{"_id": 0, "host": host}]})
        return
    # The set knows its member by an address. After a start on another port mongod does not find itself in it:
    # force, because there is no primary that could agree. (mongod first asks at the old address whether it is
    # there itself; should a stranger accept that and say nothing, it gives up only after 30 s.)
    stored["members"][0]["host"] = host
    stored["version"] += 1
    client.admin.command("replSetReconfig", stored, force=True)


def readable(line: str) -> str | None:
    """A line of mongod's JSON log with the fields of our own logs; None for the many that only inform."""
    try:
        entry = json.loads(line)
        level = _LEVELS.get(entry["s"])
        if level is None or "startupWarnings" in entry.get("tags", []):
            return None
        attributes = {"attr": entry["attr"]} if entry.get("attr") else {}
        told = {"event": entry["msg"], "level": level, "timestamp": entry["t"]["$date"], **attributes}
        return json.dumps(told)
    except (ValueError, KeyError, TypeError):
        return line
