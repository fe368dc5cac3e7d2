"""A real mongod as a replica set of one member, which provides transactions and change streams."""

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
    """Return the mongod command. A replica set always journals since 4.0, and 6.1 rejects ``--journal``.

    Weights do not compress: the attempt, in the journal and in the oplog, takes half of an upload's time.

    Args:
        cache_gb: size of the cache; None: an eighth of the machine's memory.

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
        # A transaction of a killed process locks its documents until this time has passed.
        *("--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION_S}"),
    ]


def _default_cache_gb() -> float:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_LEAST_CACHE_GB, round(memory / _CACHE_PART / 2**30, 2))


def url(port: int) -> str:
    """Return a URL with ``replicaSet``: while mongod restarts, drivers wait for a primary and do not fail."""
    return f"mongodb://127.0.0.1:{port}/?replicaSet={_SET}"


def is_primary(port: int) -> bool:
    """Return whether mongod accepts writes. Creates the replica set at first, and adapts it to a new port.

    Returns within about half a second, so that it can be polled.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=300, socketTimeoutMS=500
    )
    try:
        hello = client.admin.command("hello")
        if hello.get("isreplicaset"):  # started with --replSet, but no set exists or it lacks this address
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
    # The set stores its member's address. After a start on another port, mongod does not find itself in it.
    # Use force, as no primary can agree. (mongod first tries the old address to see if it is itself there;
    # if another program accepts the connection without an answer, that takes 30 s.)
    stored["members"][0]["host"] = host
    stored["version"] += 1
    client.admin.command("replSetReconfig", stored, force=True)


def readable(line: str) -> str | None:
    """Convert a line of mongod's JSON log to the fields of our logs; None for mere information."""
    try:
        entry = json.loads(line)
        level = _LEVELS.get(entry["s"])
        if level is None or "startupWarnings" in entry.get("tags", []):
            return None
        attributes = {"attr": entry["attr"]} if entry.get("attr") else {}
        fields = {"event": entry["msg"], "level": level, "timestamp": entry["t"]["$date"], **attributes}
        return json.dumps(fields)
    except (ValueError, KeyError, TypeError):
        return line
