"""/api/v1/models/{statistics,popular,recent} and /api/v1/statistics: counts and usage of models."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.policy import policy
from model_service.api.models.search import answer_models
from model_service.api.schemas.statistics import (
    DaysQuery,
    DownloadsOfDay,
    DownloadStatistics,
    LimitQuery,
    ModelList,
    RegistryStatistics,
)
from model_service.services.models.search import Search

api = APIBlueprint("statistics", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="statistics")])


@api.get("/models/statistics", endpoint="model_statistics", responses={200: RegistryStatistics})
@api.get("/statistics", endpoint="registry_statistics", responses={200: RegistryStatistics})
@policy(Permission.READ)
def statistics() -> Response:
    """Read the statistics of the registry.

    Number of models by algorithm and status, downloads, stored bytes and recent activity, for what the
    caller may read. `GET /api/v1/statistics` and `GET /api/v1/models/statistics` return the same. The
    numbers are exact, not cached.
    """
    return answer(RegistryStatistics.of(services().statistics.registry()))


@api.get("/statistics/downloads", responses={200: DownloadStatistics})
@policy(Permission.READ)
def download_statistics(query: DaysQuery) -> Response:
    """Read downloads per day.

    One entry for each of the last `days` days (30, at most 366), today last. Days are UTC days.
    """
    days = services().statistics.downloads_by_day(query.days)
    shown = [DownloadsOfDay(date=day, downloads=downloads) for day, downloads in days]
    return answer(DownloadStatistics(days=shown, total=sum(downloads for _, downloads in days)))


@api.get("/models/popular", responses={200: ModelList})
@policy(Permission.READ)
def popular_models(query: LimitQuery) -> Response:
    """List the most downloaded model versions.

    The `limit` (10) versions with the most downloads, in that order.
    """
    return _first(query, "-download_count")


@api.get("/models/recent", responses={200: ModelList})
@policy(Permission.READ)
def recent_models(query: LimitQuery) -> Response:
    """List the newest model versions.

    The `limit` (10) versions that were registered last, newest first.
    """
    return _first(query, "-created_at")


def _first(query: LimitQuery, sort: str) -> Response:
    found = services().search.search(Search(sort=sort, limit=page_limit(query), total=False))
    return answer_models(found.stubs)
