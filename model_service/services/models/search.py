"""Search of model versions: filters, orders, pages and totals."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from model_service.actor import actor, may_read
from model_service.errors import InvalidField
from model_service.services.common.paging import cursor_of, position_of
from model_service.services.models.models import ModelService
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.models.documents import Model
from model_service.storage.models.list_orders import SORTS, InvalidPosition, Order, Position, order_of
from model_service.storage.models.model_search import ModelSearch, Query, Threshold, Total, query_of
from model_service.storage.models.search import EVALUATIONS

DEFAULT_SORT = "-created_at"
MAX_SKIP = 100_000
STUBS_FROM = 50  # on shorter pages, a second query for uncached models costs more than whole documents


@dataclass(frozen=True)
class Search:
    """The parameters of a search.

    ``filters`` are those of ``storage.models.model_search.query_of`` without the namespaces, which are
    the actor's. ``cursor`` is the ``next_cursor`` of the page before, and replaces ``page``. If ``total`` is
    None, numbered pages have a total and cursor pages do not.
    """

    filters: Fields = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    sort: str = DEFAULT_SORT
    page: int = 1
    limit: int = 20
    cursor: str | None = None
    total: bool | None = None


@dataclass(frozen=True)
class Found:
    """A page. The ``stubs`` of a long page have ``_id``, ``revision``, ``updated_at``, ``download_count`` and
    little else; on a short page they are whole documents.
    """

    stubs: list[Model]
    total: Total | None
    next_cursor: str | None


class SearchService:
    def __init__(self, search: ModelSearch, models: ModelService) -> None:
        self._search = search
        self._models = models

    def search(self, wanted: Search) -> Found:
        """Return the versions that match every filter and that the actor may read.

        Raises:
            InvalidField: the order is unknown, the cursor invalid or of another list, or the page number is
                too high.
            MalformedId, NotFound: ``parent_model_id`` is malformed or does not exist.
        """
        order = _order(wanted)
        digest = _digest(wanted)
        after = _position(wanted.cursor, digest) if wanted.cursor is not None else None
        skip = 0 if after is not None else (wanted.page - 1) * wanted.limit
        if skip > MAX_SKIP:
            raise InvalidField.of(
                "page", f"at most {MAX_SKIP:,} versions from the start; use next_cursor to go further"
            )
        query = self._query(wanted, order)
        if query is None:
            return Found([], Total(0, False), None)
        wants_total = wanted.total or (wanted.total is None and after is None)
        total_of_query = self._search.total(query) if wants_total else None
        try:
            # One more than requested, which shows whether there is a next page.
            found = self._search.find(
                query, order, skip=skip, limit=wanted.limit + 1, after=after, stubs=wanted.limit >= STUBS_FROM
            )
        except InvalidPosition:
            raise InvalidField.of("cursor", "not a next_cursor of this list") from None
        stubs = found[: wanted.limit]
        more = len(found) > len(stubs)
        total = None
        if total_of_query is not None:
            seen = skip + len(stubs)
            whole = after is None and not more and (stubs or skip == 0)
            total = Total(seen, False) if whole else total_of_query()
            if total.is_estimate:
                total = Total(max(total.count, seen + more), True)
        cursor = cursor_of([digest, *order.position(stubs[-1])]) if more else None
        return Found(stubs, total, cursor)

    def load(self, model_ids: list[StoredId]) -> list[Model]:
        """Return the documents of a page's stubs, in any order, without those deleted meanwhile."""
        return self._search.load(model_ids)

    def _query(self, wanted: Search, order: Order) -> Query | None:
        metrics = dict.fromkeys([*wanted.least, *wanted.most, *([order.metric] if order.metric else [])])
        if not all(map(_may_see, metrics)):
            return None
        thresholds = [
            Threshold(metric, wanted.least.get(metric), wanted.most.get(metric)) for metric in metrics
        ]
        filters = dict(wanted.filters)
        if "parent_model_id" in filters:
            filters["parent_model_id"] = self._models.id_of(str(filters["parent_model_id"]))
        namespaces = actor().readable_namespaces()
        if namespaces is not None:
            filters["namespaces"] = namespaces
        return query_of(filters, thresholds)


def _may_see(metric: str) -> bool:
    """Return whether the actor may read the dataset, if the metric is one of an evaluation."""
    dataset_name = metric.removeprefix(EVALUATIONS).rpartition("/")[0]
    return not metric.startswith(EVALUATIONS) or may_read(dataset_name)


def _order(wanted: Search) -> Order:
    order = order_of(wanted.sort)
    if order is None:
        raise InvalidField.of("sort", f"one of {', '.join(SORTS)}, with a '-' in front for descending")
    if order.name == "version" and "name" not in wanted.filters:
        raise InvalidField.of("sort", "'version' sorts the versions of one name: send 'name' too")
    return order


def _digest(wanted: Search) -> str:
    """Return a digest of all parameters that determine the list."""
    parts = [wanted.filters, wanted.least, wanted.most, wanted.sort]
    text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()[:16]


def _position(cursor: str, digest: str) -> Position:
    """Decode the cursor of the list with this digest. Raises: InvalidField."""
    of, *position = position_of(cursor) or [None]
    if of != digest:
        raise InvalidField.of("cursor", "the cursor belongs to a list with other filters or another order")
    return position
