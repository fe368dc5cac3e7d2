"""How often a deployment may be asked: several processes, a real Redis and MongoDB, or neither."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from model_service.config import Settings
from model_service.errors import QuotaExceeded, RateLimited
from model_service.serving.accounting import quotas as serving_quotas
from model_service.serving.accounting.quotas import Quotas, QuotaState, refusal_headers
from model_service.storage.access.rate_windows import RateWindows
from model_service.storage.common.db import CONNECTION_ERRORS, Database
from model_service.storage.common.secrets import Secrets
from model_service.storage.deployments.usage import Batch, UsageCounts, month_of, next_month
from model_service.tiers import UNLIMITED, TierLimits

FREE = TierLimits(requests_per_month=6, rate_limit_per_minute=4)
MONTHLY = TierLimits(requests_per_month=6)
START = datetime.fromisoformat("2026-03-31T23:50:15+00:00")
APRIL = datetime.fromisoformat("2026-04-01T00:00:00+00:00")


class Clock:
    def __init__(self) -> None:
        self.moment = START.timestamp()

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Pool:
    """Processes that share a Redis and a MongoDB, or what the settings say."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self.settings, self.database, self._clock = settings, database, clock
        self._rates: list[RateWindows] = []

    def process(self, *, counts: UsageCounts | None = None, **changes: Any) -> Quotas:
        rates = RateWindows(self.settings.model_copy(update=changes), Secrets(self.database))
        self._rates.append(rates)
        return Quotas(rates, counts or UsageCounts(self.database), self._clock)

    def months(self, month: datetime) -> dict[str, int]:
        return UsageCounts(self.database).months(["anna", "bert"], month)

    def close(self) -> None:
        for rates in self._rates:
            rates.close()


@pytest.fixture
def pool(settings: Settings, database: Database, clock: Clock) -> Iterator[Pool]:
    pool = Pool(settings, database, clock)
    yield pool
    pool.close()


def admitted(quotas: Quotas, times: int, limits: TierLimits = FREE, owner: str = "anna") -> int:
    count = 0
    for _ in range(times):
        try:
            quotas.admit(owner, limits)
            count += 1
        except (RateLimited, QuotaExceeded):
            pass
    return count


def test_an_owner_has_their_minute(pool: Pool, clock: Clock) -> None:
    quotas = pool.process()
    first = quotas.admit("anna", FREE)
    assert dict(first.headers()) == {
        "X-RateLimit-Limit": "4",
        "X-RateLimit-Remaining": "3",
        "X-RateLimit-Reset": str(int(START.timestamp()) + 45),
        "X-Quota-Limit": "6",
        "X-Quota-Remaining": "5",
        "X-Quota-Reset": str(int(APRIL.timestamp())),
    }
    assert admitted(quotas, 10) == 3
    with pytest.raises(RateLimited) as refused:
        quotas.admit("anna", FREE)
    assert dict(refusal_headers(refused.value)) == {
        "X-RateLimit-Limit": "4",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(START.timestamp()) + 45),
        "Retry-After": "45",
    }
    assert admitted(quotas, 1, owner="bert") == 1
    clock.moment += 45
    assert admitted(quotas, 10) == 2  # of the month there were two left


def test_an_owner_has_their_month(pool: Pool, clock: Clock) -> None:
    quotas = pool.process()
    assert admitted(quotas, 10, MONTHLY) == 6
    with pytest.raises(QuotaExceeded) as refused:
        quotas.admit("anna", MONTHLY)
    assert refused.value.status == 429
    assert dict(refusal_headers(refused.value)) == {
        "X-Quota-Limit": "6",
        "X-Quota-Remaining": "0",
        "X-Quota-Reset": str(int(APRIL.timestamp())),
        "Retry-After": str(9 * 60 + 45),
    }
    assert admitted(quotas, 1, MONTHLY, owner="bert") == 1
    quotas.sync()
    assert pool.months(month_of(START)) == {"anna": 6, "bert": 1}
    clock.moment = APRIL.timestamp()
    assert admitted(quotas, 10, MONTHLY) == 6


def test_what_is_asked_at_the_end_of_a_month_belongs_to_it(pool: Pool, clock: Clock) -> None:
    quotas = pool.process()
    assert admitted(quotas, 2, MONTHLY) == 2
    clock.moment = APRIL.timestamp()
    assert admitted(quotas, 3, MONTHLY) == 3
    quotas.sync()
    quotas.sync()
    assert (pool.months(month_of(START)), pool.months(APRIL)) == ({"anna": 2}, {"anna": 3})
    assert admitted(quotas, 10, MONTHLY) == 3


def test_nobody_limits_who_has_no_tier_and_their_requests_are_counted(pool: Pool) -> None:
    quotas = pool.process()
    assert quotas.admit("anna", UNLIMITED).headers() == ()
    assert admitted(quotas, 999, UNLIMITED) == 999
    quotas.sync()
    assert pool.months(month_of(START)) == {"anna": 1000}


def test_processes_share_minute_and_month(pool: Pool, clock: Clock) -> None:
    one, two = pool.process(), pool.process()
    assert (admitted(one, 2), admitted(two, 1)) == (2, 1)
    for _ in range(2):
        one.sync()
        two.sync()
    assert (one.state(), two.state()) == (QuotaState(True, True), QuotaState(True, True))
    assert admitted(one, 10) == 1
    one.sync()
    two.sync()
    assert admitted(two, 10) == 0
    clock.moment += 60
    assert (admitted(one, 1), admitted(one, 1)) == (1, 1)
    one.sync()
    two.sync()
    with pytest.raises(QuotaExceeded):
        two.admit("anna", FREE)
    assert pool.months(month_of(START)) == {"anna": 6}


def test_a_new_process_knows_the_month_before_the_first_request(pool: Pool) -> None:
    one = pool.process()
    assert admitted(one, 6, MONTHLY) == 6
    one.sync()
    two = pool.process()
    two.sync(owners=["anna"])
    assert admitted(two, 1, MONTHLY) == 0


def test_without_redis_each_process_counts_alone(pool: Pool) -> None:
    for changes in ({"redis_url": None}, {"redis_url": SecretStr("redis://127.0.0.1:1")}):
        quotas = pool.process(**changes)
        assert admitted(quotas, 10, TierLimits(rate_limit_per_minute=4)) == 4
        quotas.sync()
        assert quotas.state() == QuotaState(rates_shared=False, months_current=True)
        assert admitted(quotas, 10, TierLimits(rate_limit_per_minute=4)) == 0


def test_when_redis_is_lost_the_others_last_counts_stay(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = TierLimits(rate_limit_per_minute=4)
    one, two = pool.process(), pool.process()
    assert (admitted(one, 1, limits), admitted(two, 2, limits)) == (1, 2)
    one.sync()
    two.sync()
    one.sync()
    one._rates._redis.connection_pool.reset()  # type: ignore[union-attr]
    one._rates._redis.connection_pool.connection_kwargs["port"] = 1  # type: ignore[union-attr]
    one.sync()
    assert not one.state().rates_shared
    assert admitted(one, 10, limits) == 1


def test_without_mongodb_the_month_goes_on_from_the_last_known(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_quotas, "_TIMEOUT_S", 0.2)
    nowhere = Database(settings.model_copy(update={"mongodb_url": SecretStr("mongodb://127.0.0.1:1")}))
    there, quotas = UsageCounts(pool.database), pool.process()
    other = pool.process()
    assert (admitted(quotas, 1, MONTHLY), admitted(other, 2, MONTHLY)) == (1, 2)
    other.sync()
    quotas.sync()
    quotas._counts = UsageCounts(nowhere)
    assert admitted(quotas, 1, MONTHLY) == 1
    quotas.sync()
    assert quotas.state() == QuotaState(rates_shared=True, months_current=False)
    assert admitted(quotas, 10, MONTHLY) == 2  # of six, with the other's two
    quotas.sync()
    nowhere.close()
    quotas._counts = there
    quotas.sync()
    assert pool.months(month_of(START)) == {"anna": 6}
    assert quotas.state().months_current
    assert admitted(quotas, 1, MONTHLY) == 0


def test_a_write_whose_answer_is_lost_counts_once(pool: Pool) -> None:
    class Lossy(UsageCounts):
        breaks = True

        def add_months(self, requests: Any, batch: Batch) -> None:
            super().add_months(requests, batch)
            if self.breaks:
                raise CONNECTION_ERRORS[0]("the connection is lost")

    lossy = Lossy(pool.database)
    quotas = pool.process(counts=lossy)
    for _ in range(2):
        assert admitted(quotas, 2, MONTHLY) == 2
        quotas.sync()
        assert not quotas.state().months_current
    lossy.breaks = False
    quotas.sync()
    assert pool.months(month_of(START)) == {"anna": 4}
    assert admitted(quotas, 10, MONTHLY) == 2


def test_the_loop_admits_while_another_thread_syncs(pool: Pool) -> None:
    quotas, stop = pool.process(), threading.Event()

    def sync() -> None:
        while not stop.is_set():
            quotas.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    limits = TierLimits(requests_per_month=5000, rate_limit_per_minute=10_000)
    assert admitted(quotas, 20_000, limits) == 5000
    stop.set()
    thread.join()
    quotas.sync()
    assert pool.months(month_of(START)) == {"anna": 5000}


def test_months() -> None:
    for text, month, following in (
        ("2026-01-31T23:59:59+00:00", "2026-01-01", "2026-02-01"),
        ("2026-12-01T00:00:00+00:00", "2026-12-01", "2027-01-01"),
        ("2027-01-01T00:30:00+01:00", "2026-12-01", "2027-01-01"),
    ):
        at = datetime.fromisoformat(text)
        assert month_of(at) == datetime.fromisoformat(month).replace(tzinfo=UTC)
        assert next_month(at) == datetime.fromisoformat(following).replace(tzinfo=UTC)
