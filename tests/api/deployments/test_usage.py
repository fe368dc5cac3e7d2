"""What is told of a deployment's usage, its owner's quota, and the price."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from model_service.latency import bucket_of
from model_service.storage.common.db import Database, now
from model_service.storage.deployments.usage import (
    MOST_ROWS,
    Batch,
    Counts,
    UsageCounts,
    UsageKey,
    month_of,
    next_month,
)
from tests.api.finished import complete
from tests.api.people import Caller, People, secured
from tests.factories import new_model

URL = "/api/v1/deployments"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def this_hour() -> datetime:
    return now().replace(minute=0, second=0, microsecond=0)


def counted(at: datetime, requests: int, latency_ms: float = 4.0) -> Counts:
    histogram = Counts(at).histogram
    histogram[bucket_of(latency_ms)] = requests
    return Counts(at, requests, 1, 2, 1.5 * requests, 100, 200, histogram)


def deployed(somebody: Caller, database: Database, **model: Any) -> str:
    """A deployment of theirs."""
    made: Any = somebody("POST", "/api/v1/models", json=new_model(**model), status=201).json
    path = f"/api/v1/models/{made['model_id']}/upload"
    somebody("POST", path, data=b"some bytes", headers={"X-Filename": "m.pt2"}, status=201)
    body = {"model_id": made["model_id"], "export_format": "onnx"}
    job: Any = somebody("POST", "/api/v1/export/jobs", json=body, status=202).json
    complete(database, job["id"])
    body = {"name": "digits", "export_job_id": job["id"]}
    return str(somebody("POST", URL, json=body, status=202).json["id"])  # type: ignore[index]


@pytest.fixture
def anybody(app: Flask) -> Caller:
    return Caller(app)


@pytest.fixture
def deployment_id(anybody: Caller, database: Database) -> str:
    return deployed(anybody, database)


@pytest.fixture
def counts(database: Database) -> UsageCounts:
    return UsageCounts(database)


def test_of_an_hour_each_member_and_all(anybody: Caller, deployment_id: str, counts: UsageCounts) -> None:
    at = this_hour()
    counts.add(
        {
            UsageKey(at, deployment_id, "a", "v1.0"): counted(at, 10),
            UsageKey(at, deployment_id, "b", "v2.0"): counted(at, 30, latency_ms=50.0),
            UsageKey(at - HOUR, deployment_id, "a", "v1.0"): counted(at, 5),
            UsageKey(at - 30 * HOUR, deployment_id, "a", "v1.0"): counted(at, 1000),
        },
        Batch("p", 1),
    )
    told: Any = anybody("GET", f"{URL}/{deployment_id}/usage", status=200).json
    assert [(row["member"], row["model_version"], row["requests"]) for row in told["usage"]] == [
        *(("a", "v1.0", 5), ("a", "v1.0", 10), ("b", "v2.0", 30)),
    ]
    last = told["usage"][-1]
    assert datetime.fromisoformat(last["at"]) == at
    assert (last["client_errors"], last["errors"], last["bytes_in"], last["bytes_out"]) == (1, 2, 100, 200)
    assert last["inference_time_ms"] == 45.0
    assert 32 < last["latency_ms"]["p50"] < last["latency_ms"]["p95"] < last["latency_ms"]["p99"] <= 56
    assert told["total"]["requests"] == 45
    assert 3.2 < told["usage"][0]["latency_ms"]["p95"] <= 5.6
    assert told["total"]["latency_ms"]["p50"] > 32  # two thirds were slow
    assert (told["granularity"], told["deployment_id"]) == ("hour", deployment_id)
    assert datetime.fromisoformat(told["from"]) == at - 23 * HOUR


def test_by_day_from_and_to(anybody: Caller, deployment_id: str, counts: UsageCounts) -> None:
    noon = datetime.fromisoformat("2026-05-10T12:00:00+00:00")
    counts.add(
        {
            UsageKey(noon + offset, deployment_id, "a", "v1.0"): counted(noon, 10)
            for offset in (-DAY, -HOUR, HOUR, DAY)
        },
        Batch("p", 1),
    )
    path = f"{URL}/{deployment_id}/usage"
    query = {"from": "2026-05-10T08:00:00Z", "to": "2026-05-11T14:00:00+02:00", "granularity": "day"}
    told: Any = anybody("GET", path, query_string=query, status=200).json
    assert [(row["at"][:10], row["requests"]) for row in told["usage"]] == [("2026-05-10", 20)]
    assert (told["from"], told["to"]) == ("2026-05-10T00:00:00Z", "2026-05-11T12:00:00Z")
    query["to"] = "2026-05-11T12:00:01Z"
    later: Any = anybody("GET", path, query_string=query, status=200).json
    assert [row["requests"] for row in later["usage"]] == [20, 10]


def test_nothing_was_asked(anybody: Caller, deployment_id: str) -> None:
    told: Any = anybody("GET", f"{URL}/{deployment_id}/usage", status=200).json
    assert told["usage"] == []
    assert told["total"]["requests"] == 0
    assert told["total"]["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert told["quota"] == {
        "tier": None,
        "requests_per_month": None,
        "rate_limit_per_minute": None,
        "used": 0,
        "remaining": None,
        "resets_at": told["quota"]["resets_at"],
    }


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ({"from": "2026-05-10T00:00:00Z", "to": "2026-05-10T00:00:00Z"}, "before"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "granularity=day"),
        ({"from": "2024-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z", "granularity": "day"}, "366"),
        ({"from": "2026-05-10T00:00:00"}, "timezone"),
        ({"from": "9999-12-31T23:59:59-14:00"}, "calendar"),
        ({"to": "0001-01-01T00:00:00+14:00"}, "calendar"),
        ({"to": "0001-01-01T00:00:00Z"}, "before"),
        ({"granularity": "week"}, "hour"),
        ({"since": "2026-05-10T00:00:00Z"}, "since"),
    ],
)
def test_what_cannot_be_told(anybody: Caller, deployment_id: str, query: dict[str, str], hint: str) -> None:
    answer = anybody("GET", f"{URL}/{deployment_id}/usage", query_string=query)
    assert answer.status_code == 422
    assert hint in answer.text


def test_an_answer_has_an_end(anybody: Caller, deployment_id: str, database: Database) -> None:
    """Many members and versions make a span too long that is not."""
    noon = datetime.fromisoformat("2026-05-10T12:00:00+00:00")
    rows = {"deployment_id": deployment_id, "model_version": "v1.0", "requests": 1, "h": {"3": 1}}
    names = [f"m{number}" for number in range(MOST_ROWS // 2)]
    hours = [noon, noon + HOUR, noon + 2 * HOUR]
    database.usage.insert_many([rows | {"hour": hour, "member": name} for hour in hours for name in names])
    path, query = (
        f"{URL}/{deployment_id}/usage",
        {"from": "2026-05-10T13:00:00Z", "to": "2026-05-11T00:00:00Z"},
    )
    told: Any = anybody("GET", path, query_string=query, status=200).json
    assert len(told["usage"]) == told["total"]["requests"] == MOST_ROWS
    query["from"] = "2026-05-10T12:00:00Z"
    answer = anybody("GET", path, query_string=query, status=422)
    (field,) = answer.json["error"]["details"]["fields"]  # type: ignore[index]
    assert field["field"] == "from"
    assert "granularity=day" in field["message"]
    query["granularity"] = "day"
    assert len(anybody("GET", path, query_string=query, status=200).json["usage"]) == len(names)  # type: ignore[index]


def test_a_deployment_that_is_not_there(http: FlaskClient) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    assert http.get(f"{URL}/{missing}/usage").status_code == 404
    assert http.get(f"{URL}/nonsense/usage").status_code == 404


def test_the_owner_sees_quota_and_price_and_a_reader_does_not(
    settings: Settings, database: Database, counts: UsageCounts
) -> None:
    people = People(create_app(secured(settings)))
    anna = people.user("anna", ["writer", "deployer"], tier="pro")
    reader = people.user("rita", ["reader"])
    deployment_id = deployed(anna, database)
    at = this_hour()
    counts.add({UsageKey(at, deployment_id, "a", "v1.0"): counted(at, 3000)}, Batch("p", 1))
    counts.add_months({("anna", month_of(at)): 40_000, ("rita", month_of(at)): 7}, Batch("p", 1))
    counts.add_months({("anna", month_of(month_of(at) - DAY)): 5}, Batch("p", 2))
    path = f"{URL}/{deployment_id}/usage"
    told: Any = anna("GET", path, status=200).json
    assert told["quota"] | {"resets_at": None} == {
        "tier": "pro",
        "requests_per_month": 100_000,
        "rate_limit_per_minute": 100,
        "used": 40_000,
        "remaining": 60_000,
        "resets_at": None,
    }
    assert datetime.fromisoformat(told["quota"]["resets_at"]) == next_month(at)
    assert told["price"] == {"per_1000_requests": 0.5, "per_month": 0.0, "of_requests": 1.5}
    assert people.root("GET", path, status=200).json["quota"] == told["quota"]  # type: ignore[index]
    seen: Any = reader("GET", path, status=200).json
    assert seen["usage"] == told["usage"]
    assert (seen["quota"], seen["price"]) == (None, None)
