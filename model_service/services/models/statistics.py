"""Statistics of the registry's content and use, from counters instead of the models themselves."""

from collections import Counter
from dataclasses import dataclass
from datetime import date

from model_service.actor import actor
from model_service.storage.statistics import downloads
from model_service.storage.statistics.counters import Counters
from model_service.storage.statistics.downloads import Downloads

MAX_DAYS = downloads.MAX_DAYS


@dataclass(frozen=True)
class Statistics:
    """Statistics of the namespaces that the caller may read."""

    models: int
    by_algorithm: dict[str, int]
    by_status: dict[str, int]
    size_bytes: int
    # Shared bytes count once. Known for the whole registry only; None unless the caller may read all of it.
    stored_bytes: int | None
    created_today: int
    created_last_7_days: int
    downloads: int
    downloads_today: int
    downloads_last_24_hours: int

    @property
    def average_size_bytes(self) -> float:
        return self.size_bytes / self.models if self.models else 0.0


class StatisticsService:
    def __init__(self, counters: Counters, downloads: Downloads) -> None:
        self._counters = counters
        self._downloads = downloads

    def registry(self) -> Statistics:
        """Return the statistics. They are exact: the counters change in the models' transactions."""
        namespaces = actor().readable_namespaces()
        groups = self._counters.groups(namespaces)
        by_algorithm: Counter[str] = Counter()
        by_status: Counter[str] = Counter()
        for group in groups:
            by_algorithm[group.algorithm] += group.models
            by_status[group.status] += group.models
        total, today, last_24_hours = self._downloads.recent(namespaces)
        return Statistics(
            models=by_status.total(),
            by_algorithm=dict(by_algorithm.most_common()),
            by_status=dict(by_status.most_common()),
            size_bytes=sum(group.size_bytes for group in groups),
            stored_bytes=self._counters.blobs()[1] if namespaces is None else None,
            created_today=sum(group.created_today for group in groups),
            created_last_7_days=sum(group.created_last_7_days for group in groups),
            downloads=total,
            downloads_today=today,
            downloads_last_24_hours=last_24_hours,
        )

    def downloads_by_day(self, days: int) -> list[tuple[date, int]]:
        """Return the downloads of each of the last ``days`` days (UTC), today last."""
        return self._downloads.by_day(days, actor().readable_namespaces())
