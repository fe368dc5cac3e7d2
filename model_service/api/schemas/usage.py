"""The usage of a deployment."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Moment, Query
from model_service.services.deployments.usage import Granularity, Sums, UsageReport, UsageRow
from model_service.states import Tier


class UsageQuery(Query):
    from_: Moment | None = Field(
        None, alias="from", description="by default 24 hours before 'to', or 30 days if granularity is day"
    )
    to: Moment | None = Field(None, description="by default now")
    granularity: Granularity = "hour"


class Latency(BaseModel):
    """Latency of whole requests in the server, from a histogram; null without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


class Counted(BaseModel):
    requests: int
    client_errors: int = Field(description="responses with a status 4xx")
    errors: int = Field(description="responses with a status 5xx")
    bytes_in: int
    bytes_out: int
    inference_time_ms: float = Field(description="total time that the model ran")
    latency_ms: Latency

    @classmethod
    def of(cls, sums: Sums, **more: Any) -> Self:
        return cls(
            requests=sums.requests,
            client_errors=sums.client_errors,
            errors=sums.errors,
            bytes_in=sums.bytes_in,
            bytes_out=sums.bytes_out,
            inference_time_ms=round(sums.inference_time_ms, 3),
            latency_ms=Latency(p50=sums.p50_ms, p95=sums.p95_ms, p99=sums.p99_ms),
            **more,
        )


class UsageOfInterval(Counted):
    at: datetime = Field(description="the start of the hour or day (UTC)")
    member: str
    model_version: str

    @classmethod
    def of_row(cls, row: UsageRow) -> Self:
        return cls.of(row.sums, at=row.at, member=row.member, model_version=row.model_version)


class QuotaOfOwner(BaseModel, from_attributes=True):
    """Quota of all deployments of the owner together. A null limit means no limit."""

    tier: Tier | None
    requests_per_month: int | None
    rate_limit_per_minute: int | None = Field(description="with one key")
    used: int = Field(description="this month (UTC)")
    remaining: int | None
    resets_at: datetime


class PriceEstimate(BaseModel, from_attributes=True):
    per_1000_requests: float
    per_month: float = Field(description="the fixed price of the tier")
    of_requests: float = Field(description="the price of the requests shown")


class DeploymentUsage(BaseModel):
    deployment_id: str
    from_: datetime = Field(serialization_alias="from")
    to: datetime
    granularity: Granularity
    usage: list[UsageOfInterval] = Field(
        description="by time, member and version; periods without requests are left out"
    )
    total: Counted
    quota: QuotaOfOwner | None = Field(description="null unless the caller is the owner or an administrator")
    price: PriceEstimate | None

    @classmethod
    def of(cls, report: UsageReport) -> "DeploymentUsage":
        return cls(
            deployment_id=report.deployment_id,
            from_=report.start,
            to=report.end,
            granularity=report.granularity,
            usage=[UsageOfInterval.of_row(row) for row in report.rows],
            total=Counted.of(report.total),
            quota=None if report.quota is None else QuotaOfOwner.model_validate(report.quota),
            price=None if report.price is None else PriceEstimate.model_validate(report.price),
        )
