"""Every query that the service sends while a test runs, and whether an index answers it.

The driver tells of each command as it is sent. Those sent from the service's own code (not from a test) are
kept, one of each shape, and explained while the test's database is still there. So a new route is checked as
soon as any test asks it something.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from pymongo import MongoClient, monitoring

SERVICE = str(Path(__file__).parent.parent / "model_service")
TESTS = str(Path(__file__).parent)
COMMANDS = {"find", "aggregate", "count", "distinct", "update", "delete", "findAndModify"}
EXPLAINED = {
    *(
        "find",
        "aggregate",
        "count",
        "distinct",
        "findAndModify",
        "filter",
        "query",
        "pipeline",
        "cursor",
        "sort",
    ),
    *(
        "hint",
        "limit",
        "skip",
        "projection",
        "fields",
        "update",
        "upsert",
        "new",
        "remove",
        "key",
        "min",
        "max",
    ),
    "arrayFilters",
}
# Collection and command → why it may read everything.
ALLOWED: dict[tuple[str, str], str] = {}

# Whose purpose is to read everything there is: archives and their verification.
READ_EVERYTHING = {
    f"{SERVICE}/storage/{name}.py"
    for name in ("operations/archive", "blobs/references", "operations/integrity")
}

Command = dict[str, Any]


class _Recorder(monitoring.CommandListener):
    """Keeps the first command of each shape, of one database at a time."""

    def __init__(self) -> None:
        self.database: str | None = None
        self.found: dict[str, Command] = {}
        self.seen: set[str] = set()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.database_name != self.database or event.command_name not in COMMANDS or not _from_service():
            return
        for command in _single(event.command_name, event.command):
            shape = repr(_shape(command))
            if shape not in self.seen and shape not in self.found:
                self.found[shape] = deepcopy(command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


recorder = _Recorder()
monitoring.register(recorder)  # heard by every client that is made from here on


class CollectionScan(AssertionError):
    """Queries that no index answers."""


@contextmanager
def checked(mongodb_url: str, database: str) -> Iterator[None]:
    """Explain what the service asked of the database in the block, after it.

    Raises:
        CollectionScan: with the queries.
    """
    recorder.database, recorder.found = database, {}
    try:
        yield
    finally:
        recorder.database = None
    new = recorder.found
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        scans = [command for command in new.values() if scans_collection(client, database, command)]
    recorder.seen |= new.keys()
    if scans:
        listed = "\n".join(f"  {str(command)[:1000]}" for command in scans)
        raise CollectionScan(f"no index answers these:\n{listed}")


def scans_collection(client: MongoClient[dict[str, Any]], database: str, command: Command) -> bool:
    name = next(iter(command))
    pipeline = command.get("pipeline", [])
    # A sample of a large collection is read by a random cursor; only that of a small one is a scan.
    if (command[name], name) in ALLOWED or any("$sample" in stage for stage in pipeline[:1]):
        return False
    return "COLLSCAN" in stages(explain(client, database, command)) or any(
        not _looked_up_by_index(client, database, stage) for stage in pipeline
    )


def explain(client: MongoClient[dict[str, Any]], database: str, command: Command) -> dict[str, Any]:
    return dict(client[database].command("explain", command, verbosity="queryPlanner"))


def stages(plan: Any) -> list[str]:
    """The names of a winning plan's stages, from the last to the first."""
    if isinstance(plan, list):
        return [name for part in plan for name in stages(part)]
    if not isinstance(plan, dict):
        return []
    own = [plan["stage"]] if isinstance(plan.get("stage"), str) else []
    return own + [name for key, part in plan.items() if key != "rejectedPlans" for name in stages(part)]


def _looked_up_by_index(client: MongoClient[dict[str, Any]], database: str, stage: Mapping[str, Any]) -> bool:
    """``explain`` says nothing of the collection that a pipeline looks things up in."""
    for kind, field in (("$lookup", "foreignField"), ("$graphLookup", "connectToField")):
        if kind in stage and field in stage[kind]:
            indexes = client[database][stage[kind]["from"]].index_information().values()
            first = {index["key"][0][0] for index in indexes} | {"_id"}  # which a missing collection has too
            return stage[kind][field] in first
    return True


def _single(name: str, command: Mapping[str, Any]) -> Iterator[Command]:
    """A bulk of updates or deletes is explained one by one; what only concerns the session is left out."""
    if name in ("update", "delete"):
        for statement in command[f"{name}s"]:
            yield {name: command[name], f"{name}s": [dict(statement)]}
    else:
        yield {key: value for key, value in command.items() if key in EXPLAINED}


def _shape(value: Any) -> Any:
    """The same for two queries that differ in their values alone."""
    match value:
        case Mapping():
            return {key: _shape(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_shape(inner) for inner in value[:3]]
        case str():
            return value if value.startswith("$") else "text"
    return type(value).__name__


def _from_service() -> bool:
    """Whether the driver was called by the service, and not by a test."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        filename = frame.f_code.co_filename
        if filename in READ_EVERYTHING:
            return False
        if filename.startswith(SERVICE):
            return True
        if filename.startswith(TESTS) and filename != __file__:
            return False
        frame = frame.f_back
    return False
