"""What the counted usage is stored in: bounded documents, one for each hour whoever makes it first."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.common.indexes import INDEXES
from model_service.storage.deployments import usage as usages
from model_service.storage.deployments.usage import Batch, Counts, UsageCounts, UsageKey

HOUR = datetime.fromisoformat("2026-03-31T23:00:00+00:00")
MONTH = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
ONE = {UsageKey(HOUR, "d", "v1.0", "v1.0"): Counts(HOUR, requests=1)}


@pytest.fixture
def empty(settings: Settings) -> Iterator[Database]:
    """A database that no registry was ever started on."""
    fresh = settings.model_copy(update={"mongodb_db": f"{settings.mongodb_db}-empty"})
    database = Database(fresh)
    yield database
    database.client.drop_database(fresh.mongodb_db)
    database.close()


def test_the_first_process_on_an_empty_database_makes_the_hours_unique(empty: Database) -> None:
    for process in ("p", "q"):
        counts = UsageCounts(empty)
        for number in (1, 1, 2):
            counts.add(ONE, Batch(process, number))
    assert [row["requests"] for row in empty.usage.find({})] == [4]
    (index,) = [each for each in empty.usage.index_information().values() if each.get("unique")]
    assert index["key"] == list(INDEXES["usage"][0].document["key"].items())


def test_a_month_remembers_the_processes_that_wrote_last(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usages, "_REMEMBERED_PROCESSES", 3)
    counts = UsageCounts(database)

    def write(*batches: tuple[str, int]) -> None:
        for process, number in batches:
            counts.add_months({("somebody", MONTH): 1}, Batch(process, number))

    write(*((process, 1) for process in "abcde"))
    write(("c", 2), ("f", 1))  # what writes again stays
    write(("e", 1), ("c", 2), ("c", 1), ("f", 1))  # sent again
    (stored,) = database.usage_months.find({})
    assert [each["process"] for each in stored["flushed_by"]] == ["e", "c", "f"]
    assert stored["requests"] == 7
