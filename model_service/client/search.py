"""Calls that find and count models."""

from collections.abc import Iterator
from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.models import MODELS
from model_service.client.records import Page
from model_service.client.types import Model


class SearchCalls(Calls):
    def list_models(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **filters: Any,
    ) -> Page[Model]:
        """Return one page, newest first unless ``sort`` is given.

        All filters must match: q (words), name, namespace, algorithm, framework, task_type, status,
        created_by, tags (any of them), all_tags, alias, parent_model_id, training_job_id, created_after,
        created_before, updated_after, updated_before; for metrics ``min_accuracy=0.9``, ``max_loss=0.3`` and
        so on. ``sort`` is one of created_at, updated_at, name, version, download_count, size_bytes,
        ``metrics.NAME``; with the prefix ``-``, descending.

        Args:
            cursor: the ``next_cursor`` of the previous page, instead of a number.
        """
        query = {"page": page, "limit": limit, "cursor": cursor, **filters}
        return self._page(MODELS, "models", Model, query)

    def iter_models(self, *, page_size: int | None = None, **filters: Any) -> Iterator[Model]:
        """Iterate over all matches, page by page; each once, even if others are registered meanwhile.

        Args:
            page_size: 20 by default, and at most the service's MAX_PAGE_SIZE.
            filters: as for ``list_models``.
        """
        cursor = None
        while True:
            found = self.list_models(limit=page_size, cursor=cursor, total=False, **filters)
            yield from found
            cursor = found.next_cursor
            if cursor is None:
                return

    def search_models(self, **filters: Any) -> list[Model]:
        """Return all matches; with ``page``, ``limit`` or ``cursor`` among the filters, only that page."""
        if {"page", "limit", "cursor"} & filters.keys():
            return list(self.list_models(**filters))
        return list(self.iter_models(**filters))

    def popular_models(self, *, limit: int | None = None) -> list[Model]:
        """Return the most downloaded models."""
        return self._first("popular", limit)

    def recent_models(self, *, limit: int | None = None) -> list[Model]:
        """Return the models that were registered last."""
        return self._first("recent", limit)

    def _first(self, which: str, limit: int | None) -> list[Model]:
        answer = self._transport.json("GET", f"{MODELS}/{which}", query={"limit": limit})
        if not isinstance(answer.get("models"), list):
            raise UnexpectedAnswer("The service's response is not a list of models.")
        return [Model.from_json(model) for model in answer["models"]]

    def statistics(self) -> dict[str, Any]:
        """Return the number of models by algorithm and status, their size, and recent activity."""
        return self._transport.json("GET", "/api/v1/statistics")

    def download_statistics(self, *, days: int | None = None) -> dict[str, Any]:
        """Return the downloads of each of the last ``days`` days (by default 30), today last, and the
        total.
        """
        return self._transport.json("GET", "/api/v1/statistics/downloads", query={"days": days})
