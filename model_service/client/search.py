"""Calls that find models, and count them."""

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
        """One page, newest first unless ``sort`` says otherwise.

        Filters, all of which must hold: q (words), name, namespace, algorithm, framework, task_type, status,
        created_by, tags (any of them), all_tags, alias, parent_model_id, training_job_id, created_after,
        created_before, updated_after, updated_before; of metrics ``min_accuracy=0.9``, ``max_loss=0.3`` and
        so on. ``sort`` is one of created_at, updated_at, name, version, download_count, size_bytes,
        ``metrics.NAME``; with a ``-`` before it, descending.

        Args:
            cursor: the ``next_cursor`` of the page before, in place of a number.
        """
        query = {"page": page, "limit": limit, "cursor": cursor, **filters}
        return self._page(MODELS, "models", Model, query)

    def iter_models(self, *, page_size: int | None = None, **filters: Any) -> Iterator[Model]:
        """Every match, a page at a time: however many there are, and each once while others are registered.

        Args:
            page_size: 20 by default, and at most the service's MAX_PAGE_SIZE.
            filters: as of ``list_models``.
        """
        cursor = None
        while True:
            found = self.list_models(limit=page_size, cursor=cursor, total=False, **filters)
            yield from found
            cursor = found.next_cursor
            if cursor is None:
                return

    def search_models(self, **filters: Any) -> list[Model]:
        """Every match; with ``page``, ``limit`` or ``cursor`` among the filters, that page only."""
        if {"page", "limit", "cursor"} & filters.keys():
            return list(self.list_models(**filters))
        return list(self.iter_models(**filters))

    def popular_models(self, *, limit: int | None = None) -> list[Model]:
        """Those that were downloaded most."""
        return self._first("popular", limit)

    def recent_models(self, *, limit: int | None = None) -> list[Model]:
        """Those that were registered last."""
        return self._first("recent", limit)

    def _first(self, which: str, limit: int | None) -> list[Model]:
        answer = self._transport.json("GET", f"{MODELS}/{which}", query={"limit": limit})
        if not isinstance(answer.get("models"), list):
            raise UnexpectedAnswer("The service's answer is no list of models.")
        return [Model.from_json(model) for model in answer["models"]]

    def statistics(self) -> dict[str, Any]:
        """How many models there are, by algorithm and status, their size, and what happened lately."""
        return self._transport.json("GET", "/api/v1/statistics")

    def download_statistics(self, *, days: int | None = None) -> dict[str, Any]:
        """Downloads of each of the last ``days`` days (30 by default), today last, and their total."""
        return self._transport.json("GET", "/api/v1/statistics/downloads", query={"days": days})
