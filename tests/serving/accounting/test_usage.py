"""What the serving processes count: everything once, whatever fails between them and MongoDB."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from model_service.config import Settings
from model_service.latency import bucket_of
from model_service.serving.accounting import usage as usages
from model_service.serving.accounting.usage import Rows, Usage
from model_service.storage.common.db import CONNECTION_ERRORS, Database, now
from model_service.storage.deployments.usage import Batch, Counts, UsageCounts, UsageKey

HOUR = datetime.fromisoformat("2026-03-31T23:00:00+00:00")


def count(usage: Usage, deployment_id: str = "d", member: str = "v1.0", **given: Any) -> None:
    fields = {"status": 200, "seconds": 0.004, "inference_seconds": 0.003, "bytes_in": 10, "bytes_out": 20}
    usage.count(deployment_id, member, "v1.0", **fields | given)


def requests(database: Database) -> int:
    return sum(row["requests"] for row in database.usage.find({}))


@pytest.fixture
def deployment(database: Database) -> str:
    zeros = {"request_count": 0, "error_count": 0, "total_inference_time_ms": 0.0, "last_request_at": None}
    database.deployments.insert_one({"_id": "d"} | zeros)
    return "d"


@pytest.fixture
def counts(database: Database) -> UsageCounts:
    return UsageCounts(database)


class Lossy(UsageCounts):
    """A connection that breaks when all was written, or when the hours were and the totals were not."""

    def __init__(self, database: Database, *, hours_only: bool = False) -> None:
        super().__init__(database)
        self.breaks = True
        self._hours_only = hours_only

    def add(self, counted: Any, batch: Batch) -> None:
        super().add(counted, batch)
        self._break()

    def _add_totals(self, totals: Any, mark: str) -> None:
        if self._hours_only:
            self._break()
        super()._add_totals(totals, mark)

    def _break(self) -> None:
        if self.breaks:
            raise CONNECTION_ERRORS[0]("the connection is lost")


def test_an_hour_of_a_member(database: Database, counts: UsageCounts, deployment: str) -> None:
    usage, before = Usage(), now()
    count(usage)
    count(usage, status=422, seconds=0.0002, inference_seconds=0.0)
    count(usage, status=503, seconds=70.0)
    count(usage, member="v2.0")
    usage.flush(counts)
    first, second = database.usage.find({}, sort=[("member", 1)])
    assert first["hour"] in {moment.replace(minute=0, second=0, microsecond=0) for moment in (before, now())}
    assert (first["deployment_id"], first["member"], first["model_version"]) == ("d", "v1.0", "v1.0")
    assert (first["requests"], first["client_errors"], first["errors"]) == (3, 1, 1)
    assert (first["bytes_in"], first["bytes_out"]) == (30, 60)
    assert first["inference_ms"] == pytest.approx(6.0)
    assert first["h"] == {str(bucket_of(ms)): 1 for ms in (4.0, 0.2, 70_000.0)}
    assert (second["member"], second["requests"]) == ("v2.0", 1)
    stored = database.deployments.find_one({"_id": "d"})
    assert stored is not None
    assert (stored["request_count"], stored["error_count"]) == (4, 1)
    assert stored["total_inference_time_ms"] == pytest.approx(9.0)
    assert before <= stored["last_request_at"] <= now()


def test_another_flush_adds(database: Database, counts: UsageCounts, deployment: str) -> None:
    usage = Usage()
    for _ in range(3):
        count(usage)
        usage.flush(counts)
        usage.flush(counts)  # with nothing new
    assert requests(database) == 3
    assert database.deployments.find_one({"_id": "d"})["request_count"] == 3  # type: ignore[index]


@pytest.mark.parametrize("hours_only", [False, True])
def test_a_write_whose_answer_is_lost_counts_once(
    database: Database, deployment: str, hours_only: bool
) -> None:
    lossy, usage = Lossy(database, hours_only=hours_only), Usage()
    for _ in range(2):
        count(usage)
        with pytest.raises(CONNECTION_ERRORS):
            usage.flush(lossy)
    lossy.breaks = False
    count(usage)
    usage.flush(lossy)
    assert requests(database) == 3
    assert database.deployments.find_one({"_id": "d"})["request_count"] == 3  # type: ignore[index]


def test_a_batch_that_arrives_late_is_not_taken_again(database: Database, deployment: str) -> None:
    counts = UsageCounts(database)
    one = {UsageKey(HOUR, "d", "v1.0", "v1.0"): Counts(HOUR, requests=1)}
    for number in (1, 2, 1, 2, 3):
        counts.add(one, Batch("p", number))
    counts.add(one, Batch("another", 1))
    assert requests(database) == 4
    assert database.deployments.find_one({"_id": "d"})["request_count"] == 4  # type: ignore[index]


def test_while_mongodb_is_away_everything_is_kept(
    database: Database,
    counts: UsageCounts,
    settings: Settings,
    deployment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usages, "_TIMEOUT_S", 0.2)
    nowhere = Database(settings.model_copy(update={"mongodb_url": SecretStr("mongodb://127.0.0.1:1")}))
    usage = Usage()
    for _ in range(3):
        count(usage)
        with pytest.raises(CONNECTION_ERRORS):
            usage.flush(UsageCounts(nowhere))
    nowhere.close()
    usage.flush(counts)
    assert requests(database) == 3


def test_an_error_of_the_metrics_loses_no_usage_and_is_logged_once(
    database: Database, counts: UsageCounts, deployment: str
) -> None:
    observed: list[int] = []

    def observe(rows: Rows) -> None:
        observed.append(sum(row.requests for row in rows.values()))
        if len(observed) in (1, 2, 4):
            raise KeyError("a deployment")

    usage = Usage(observe)
    with capture_logs() as logs:
        for number in range(1, 5):
            count(usage)
            usage.flush(counts)
            assert requests(database) == number
    assert observed == [1, 1, 1, 1]
    # The second error in a row is not logged again.
    assert [entry["event"] for entry in logs] == ["serving.usage_not_observed"] * 2


def test_what_waits_keeps_its_hour(
    database: Database, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy, usage = Lossy(database, hours_only=True), Usage()
    for at in (HOUR, HOUR + timedelta(minutes=59), HOUR + timedelta(hours=1)):
        monkeypatch.setattr(usages, "now", lambda at=at: at)
        count(usage)
        with pytest.raises(CONNECTION_ERRORS):
            usage.flush(lossy)
    lossy.breaks = False
    usage.flush(lossy)
    rows = {row["hour"]: row["requests"] for row in database.usage.find({})}
    assert rows == {HOUR: 2, HOUR + timedelta(hours=1): 1}
    stored = database.deployments.find_one({"_id": "d"})
    assert stored is not None
    assert stored["last_request_at"] == HOUR + timedelta(hours=1)


def test_nothing_is_lost_between_threads_and_processes(
    database: Database, counts: UsageCounts, deployment: str
) -> None:
    """Two processes, each counting while it flushes; both make the same documents at the same moment."""
    servers = [Usage(), Usage()]
    start = threading.Barrier(2)

    def flush(usage: Usage) -> None:
        start.wait()
        for _ in range(25):
            usage.flush(counts)
            time.sleep(0.002)  # something is counted meanwhile

    counted = 0
    with ThreadPoolExecutor() as threads:
        flushing = [threads.submit(flush, usage) for usage in servers]
        while not all(each.done() for each in flushing):
            counted += 1
            for usage in servers:
                count(usage, member=f"m{counted // 1000}")
        for each in flushing:
            each.result()
    for usage in servers:
        usage.flush(counts)
    assert requests(database) == 2 * counted
    assert sum(sum(row["h"].values()) for row in database.usage.find({})) == 2 * counted
    assert database.deployments.find_one({"_id": "d"})["request_count"] == 2 * counted  # type: ignore[index]


def test_a_deployment_that_is_gone_is_no_trouble(database: Database, counts: UsageCounts) -> None:
    usage = Usage()
    count(usage, deployment_id="gone")
    usage.flush(counts)
    assert requests(database) == 1
    assert database.deployments.count_documents({}) == 0


def test_by_hour_and_by_day(counts: UsageCounts, database: Database) -> None:
    hours = [HOUR, HOUR + timedelta(hours=1), HOUR + timedelta(hours=2)]
    histogram = Counts(HOUR).histogram
    histogram[3] = 2
    counts.add(
        {
            UsageKey(hour, "d", member, "v1.0"): Counts(hour, requests=2, bytes_in=5, histogram=histogram)
            for hour in hours
            for member in ("a", "b")
        },
        Batch("p", 1),
    )
    day = timedelta(days=1)
    by_hour = counts.by_interval("d", HOUR, HOUR + timedelta(hours=2), "hour")
    assert [(row["at"], row["member"]) for row in by_hour] == [
        (hour, member) for hour in hours[:2] for member in ("a", "b")
    ]
    by_day = counts.by_interval("d", HOUR - day, HOUR + day, "day")
    midnight = hours[1]
    assert [(row["at"], row["member"], row["requests"]) for row in by_day] == [
        *((midnight - day, member, 2) for member in ("a", "b")),
        *((midnight, member, 4) for member in ("a", "b")),
    ]
    assert by_day[-1]["histogram"][3] == 4
    assert by_day[-1]["bytes_in"] == 10
    assert counts.by_interval("another", HOUR, HOUR + day, "hour") == []
