"""Parameters and responses of the lists of model versions."""

import math

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from model_service.api.schemas.common import (
    ModelReference,
    Moment,
    Name,
    Paged,
    QualifiedName,
    Separated,
    Text,
)
from model_service.api.schemas.models import Model
from model_service.errors import InvalidField
from model_service.services.models.search import DEFAULT_SORT, Search
from model_service.states import ModelStatus

METRIC = "metrics."
_ORDERS = ("created_at", "updated_at", "download_count", "size_bytes", "name", "version")
MAX_METRIC_CHARS = 256
_NOT_FILTERS = {"page", "limit", "sort", "cursor", "total", "min_accuracy"}


class ModelQuery(Paged):
    """Filters, which must all match. In addition, ``min_NAME`` and ``max_NAME`` bound any metric."""

    model_config = ConfigDict(extra="allow")

    q: str | None = Field(
        None, min_length=1, max_length=500, description="words that must all occur, in any inflected form"
    )
    name: QualifiedName | None = None
    namespace: Name | None = None
    algorithm: Text | None = None
    framework: Text | None = None
    task_type: Text | None = None
    status: ModelStatus | None = None
    created_by: Text | None = None
    tags: Separated = Field(None, description="comma-separated; at least one must match")
    all_tags: Separated = Field(None, description="comma-separated; all must match")
    alias: Text | None = None
    parent_model_id: ModelReference | None = Field(
        None, max_length=300, description="or a reference to a model"
    )
    training_job_id: Text | None = None
    created_after: Moment | None = Field(None, description="at or after this time; RFC 3339")
    created_before: Moment | None = Field(None, description="before this time; RFC 3339")
    updated_after: Moment | None = None
    updated_before: Moment | None = None
    min_accuracy: FiniteFloat | None = Field(
        None,
        description="of metrics.accuracy, or metrics.test_accuracy where there is none. In the same way"
        " min_NAME and max_NAME bound any metric; dots lead into nested ones: max_metrics.val.loss=0.3;"
        " min_evaluations.DATASET/VERSION.METRIC is that of the version's last evaluation on the dataset",
    )
    sort: str = Field(
        DEFAULT_SORT,
        max_length=300,
        json_schema_extra={"pattern": rf"^-?({'|'.join(_ORDERS)}|metrics\.[^\x00]+)$"},
        description="created_at, updated_at, name, version (of one name), download_count, size_bytes or"
        " metrics.NAME, which leaves out what lacks it; a '-' in front is descending",
    )
    cursor: str | None = Field(None, max_length=2000, description="next_cursor of the previous page")
    total: bool | None = Field(None, description="return the total count; by default only on numbered pages")

    def search(self, limit: int) -> Search:
        """Raises: InvalidField: an unknown parameter, or a bound that is not a number."""
        filters = {
            name: value
            for name in type(self).model_fields
            if name not in _NOT_FILTERS and (value := getattr(self, name)) is not None
        }
        least = {} if self.min_accuracy is None else {"accuracy": self.min_accuracy}
        most: dict[str, float] = {}
        for name, value in (self.model_extra or {}).items():
            bounds = {"min_": least, "max_": most}.get(name[:4])
            metric = name[4:].removeprefix(METRIC)
            if bounds is None or not metric or len(metric) > MAX_METRIC_CHARS:
                allowed = ", ".join(type(self).model_fields)
                raise _wrong(name, f"no such parameter; there are {allowed}, min_METRIC and max_METRIC")
            bounds[metric] = _number(name, value)
        return Search(filters, least, most, self.sort, self.page, limit, self.cursor, self.total)


class ModelPagination(BaseModel):
    page: int | None = Field(description="null if the page was requested by cursor")
    limit: int
    total: int | None = Field(description="null if it was not counted")
    pages: int | None
    total_is_estimate: bool = Field(
        description="whether total is an estimate, because there are too many matches to count"
    )
    next_cursor: str | None = Field(description="null on the last page")


class ModelPage(BaseModel):
    models: list[Model]
    pagination: ModelPagination


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(name, "a number")
    return number


def _wrong(name: str, message: str) -> InvalidField:
    return InvalidField(f"{name[:100]}: {message}.", [{"field": name[:100], "message": message}])
