"""Usage of a deployment by hour or day, with the owner's remaining monthly quota and the price."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from model_service.actor import Permission, actor
from model_service.errors import InvalidField
from model_service.latency import LATENCY_BUCKETS, percentile_ms
from model_service.services.deployments.deployments import DeploymentService
from model_service.states import Tier
from model_service.storage.common.db import now
from model_service.storage.deployments.documents import UsageRow as StoredRow
from model_service.storage.deployments.usage import MOST_ROWS, month_of, next_month
from model_service.storage.stores import Stores
from model_service.tiers import Tiers

Granularity = Literal["hour", "day"]
_INTERVAL: dict[Granularity, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
# Number of intervals: the default, and the maximum.
_SHOWN: dict[Granularity, int] = {"hour": 24, "day": 30}
_MOST: dict[Granularity, int] = {"hour": 31 * 24, "day": 366}
_FURTHER: dict[Granularity, str] = {"hour": "; use granularity=day for a longer time", "day": ""}
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # older than any count, and within the calendar's range


@dataclass(frozen=True)
class Sums:
    """Sums of usage. Latency percentiles are for whole requests at the server; None without requests."""

    requests: int
    client_errors: int
    errors: int
    inference_time_ms: float
    bytes_in: int
    bytes_out: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, rows: list[StoredRow]) -> "Sums":
        """Add up rows of ``UsageCounts.by_interval``."""
        histogram = [sum(row["histogram"][index] for row in rows) for index in range(LATENCY_BUCKETS)]
        return cls(
            requests=sum(row["requests"] for row in rows),
            client_errors=sum(row["client_errors"] for row in rows),
            errors=sum(row["errors"] for row in rows),
            inference_time_ms=sum(row["inference_ms"] for row in rows),
            bytes_in=sum(row["bytes_in"] for row in rows),
            bytes_out=sum(row["bytes_out"] for row in rows),
            p50_ms=percentile_ms(histogram, 0.5),
            p95_ms=percentile_ms(histogram, 0.95),
            p99_ms=percentile_ms(histogram, 0.99),
        )


@dataclass(frozen=True)
class UsageRow:
    """Usage of one member and model version in one interval. ``at``: start of the hour or day (UTC)."""

    at: datetime
    member: str
    model_version: str
    sums: Sums


@dataclass(frozen=True)
class Quota:
    """The owner's quota over all their deployments, including deleted ones. None means no limit."""

    tier: Tier | None
    requests_per_month: int | None
    rate_limit_per_minute: int | None
    used: int
    resets_at: datetime

    @property
    def remaining(self) -> int | None:
        return None if self.requests_per_month is None else max(0, self.requests_per_month - self.used)


@dataclass(frozen=True)
class Price:
    """Price estimate by the owner's tier, in the operator's currency. ``of_requests``: the shown requests."""

    per_1000_requests: float
    per_month: float
    of_requests: float


@dataclass(frozen=True)
class UsageReport:
    """Usage report. ``quota`` and ``price`` are None unless the caller is the owner or an administrator."""

    deployment_id: str
    start: datetime
    end: datetime
    granularity: Granularity
    rows: list[UsageRow]
    total: Sums
    quota: Quota | None
    price: Price | None


class UsageService:
    def __init__(self, stores: Stores, deployments: DeploymentService, tiers: Tiers) -> None:
        self._deployments = deployments
        self._counts = stores.usage
        self._users = stores.users
        self._tiers = tiers

    def of(
        self,
        deployment_id: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        granularity: Granularity = "hour",
    ) -> UsageReport:
        """Return the usage from ``start``, rounded down to a whole interval, to ``end``.

        The default is the last 24 hours or 30 days. Deleted deployments have usage too.

        Raises:
            MalformedId, NotFound.
            InvalidField: ``start`` is not before ``end``, or the time between them has too many intervals, or
                too many rows for members and versions.
        """
        deployment = self._deployments.get_or_deleted(deployment_id)
        start, end = _interval(start, end, granularity)
        rows = self._counts.by_interval(deployment["_id"], start, end, granularity)
        if len(rows) > MOST_ROWS:
            message = (
                f"start later: the members, versions and {granularity}s since then make more than "
                f"{MOST_ROWS:,} rows"
            )
            raise InvalidField.of("from", message + _FURTHER[granularity])
        total = Sums.of(rows)
        shown = [UsageRow(row["at"], row["member"], row["model_version"], Sums.of([row])) for row in rows]
        owner = deployment.get("user_id") or ""
        quota, price = self._of_owner(owner, total.requests) if owner and _may_know(owner) else (None, None)
        return UsageReport(deployment["_id"], start, end, granularity, shown, total, quota, price)

    def _of_owner(self, owner: str, requests: int) -> tuple[Quota, Price]:
        moment = now()
        tier = self._tiers.of_user(owner, self._users.get(owner))
        limits = self._tiers.of(tier)
        quota = Quota(
            tier,
            limits.requests_per_month,
            limits.rate_limit_per_minute,
            self._counts.months([owner], month_of(moment)).get(owner, 0),
            next_month(moment),
        )
        each = limits.price_per_1000_requests
        return quota, Price(each, limits.price_per_month, requests / 1000 * each)


def _may_know(owner: str) -> bool:
    """Return whether the caller may see the total usage of the owner, which other readers may not."""
    return actor().name == owner or Permission.ADMIN in actor().everywhere


def _interval(
    start: datetime | None, end: datetime | None, granularity: Granularity
) -> tuple[datetime, datetime]:
    """Return the start and end with their defaults. Raises: InvalidField."""
    step = _INTERVAL[granularity]
    end = now() if end is None else end
    if start is None:
        start = max(end, _EARLIEST) - (_SHOWN[granularity] - 1) * step
    start = _floor(start, granularity)
    if start >= end:
        raise InvalidField.of("from", f"must be before {end.isoformat()}, the end of the requested usage")
    if end - start > _MOST[granularity] * step:
        message = f"must be at most {_MOST[granularity]} {granularity}s before 'to'"
        raise InvalidField.of("from", message + _FURTHER[granularity])
    return start, end


def _floor(moment: datetime, granularity: Granularity) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if granularity == "hour" else hour.replace(hour=0)
