"""Statistics. Two forms of the fields exist; each response contains both."""

import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Limited, Query
from model_service.api.schemas.models import Model
from model_service.services.models.statistics import MAX_DAYS, Statistics

MB, GB = 10**6, 10**9
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class StorageUsage(BaseModel):
    total_size_bytes: int = Field(description="of the files of all models")
    total_size_gb: float
    average_model_size_mb: float
    stored_size_bytes: int | None = Field(
        description="of all stored files, equal ones once; null without read permission in all namespaces"
    )


class StorageStats(BaseModel):
    total_size: str
    average_model_size: str


class RecentActivity(BaseModel):
    models_added_last_7_days: int = Field(
        description="of models that exist now: today and the six days before (UTC)"
    )
    downloads_last_24_hours: int = Field(description="in this hour and the 23 hours before")
    models_created_today: int
    models_downloaded_today: int


class RegistryStatistics(BaseModel):
    total_models: int
    algorithms: dict[str, int]
    models_by_algorithm: dict[str, int]
    status_distribution: dict[str, int]
    models_by_status: dict[str, int]
    total_downloads: int
    storage_usage: StorageUsage
    storage_stats: StorageStats
    recent_activity: RecentActivity

    @classmethod
    def of(cls, found: Statistics) -> "RegistryStatistics":
        return cls(
            total_models=found.models,
            algorithms=found.by_algorithm,
            models_by_algorithm=found.by_algorithm,
            status_distribution=found.by_status,
            models_by_status=found.by_status,
            total_downloads=found.downloads,
            storage_usage=StorageUsage(
                total_size_bytes=found.size_bytes,
                total_size_gb=round(found.size_bytes / GB, 3),
                average_model_size_mb=round(found.average_size_bytes / MB, 3),
                stored_size_bytes=found.stored_bytes,
            ),
            storage_stats=StorageStats(
                total_size=size_text(found.size_bytes),
                average_model_size=size_text(found.average_size_bytes),
            ),
            recent_activity=RecentActivity(
                models_added_last_7_days=found.created_last_7_days,
                downloads_last_24_hours=found.downloads_last_24_hours,
                models_created_today=found.created_today,
                models_downloaded_today=found.downloads_today,
            ),
        )


class DaysQuery(Query):
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 30


class DownloadsOfDay(BaseModel):
    date: datetime.date
    downloads: int


class DownloadStatistics(BaseModel):
    days: list[DownloadsOfDay] = Field(description="one entry per day (UTC), today last")
    total: int = Field(description="of these days")


class LimitQuery(Limited):
    limit: int | None = Field(10, ge=1, description="at most MAX_PAGE_SIZE")


class ModelList(BaseModel):
    models: list[Model]


def size_text(size_bytes: float) -> str:
    """Return a size as text, such as ``2.3 GB``; a GB is 10^9 bytes."""
    power = 0
    while round(size_bytes, 1) >= 1000 and power < len(_UNITS) - 1:
        size_bytes /= 1000
        power += 1
    return f"{size_bytes:.1f} {_UNITS[power]}" if power else f"{size_bytes:.0f} B"
