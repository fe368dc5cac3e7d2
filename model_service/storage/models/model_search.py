"""Queries for lists of model versions: filter, order, position and total.

For every list, an index returns the order of the list, or MongoDB sorts the few results of a selective index.
A page after a cursor begins with a range instead of a skip: the last page costs as much as the first.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from typing_extensions import TypedDict

from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, now
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.models.documents import DERIVED, Model
from model_service.storage.models.list_orders import Order, Position
from model_service.storage.models.sample import ModelSample
from model_service.storage.models.search import (
    METRIC_ORDER,
    metric_at_least,
    metric_at_most,
    metric_field,
    words,
)

COUNTED = 10_000  # totals are counted exactly in a registry of up to this size, or up to this many matches
ESTIMATED_FROM = 20_000  # a larger total is estimated from the sample
SURE_SAMPLED = 5  # if at least this many documents of the sample match
READ = 100  # number of matches of the rarest predicate that are checked for the other predicates
FIND_MS = 10_000
# A stored total is valid until a model changes. A change younger than this may hide another uncommitted one.
SETTLED_S = 1.0
KEPT_S = 60.0
KEPT_TOTALS = 1_000
_COUNTS = 8  # concurrent counts of a process
MAX_BRANCHES = 40  # of a cursor's $or; with more, the page is sorted in memory
STUB = ("revision", "updated_at", "download_count", "scans")
_SHOWN = dict.fromkeys(DERIVED, False)
_SHOWN_WITH_METRICS = {field: False for field in DERIVED if field != METRIC_ORDER}
_ANY_OF = {"tags": "tags", "namespaces": "namespace"}


@dataclass(frozen=True)
class Threshold:
    """Inclusive bounds of a metric; None means no bound."""

    metric: str
    least: float | None = None
    most: float | None = None

    def predicate(self) -> Fields:
        least = metric_at_least(float("-inf") if self.least is None else self.least)
        most = metric_at_most(float("inf") if self.most is None else self.most)
        return {metric_field(self.metric): {"$gte": least, "$lte": most}}


class _Count(TypedDict):
    matching: int


State = tuple[object, ...] | None


@dataclass(frozen=True)
class Total:
    count: int
    is_estimate: bool


@dataclass(frozen=True)
class Query:
    """The conditions of a list: every predicate, and one of the alternatives of each field."""

    predicates: list[Fields]
    alternatives: list[tuple[str, list[str]]]

    def parts(self) -> list[Fields]:
        """Return predicates of one field each."""
        return self.predicates + [{field: {"$in": values}} for field, values in self.alternatives]

    def document(self) -> Fields:
        return _all(self.parts())

    def within(self, ranges: list[Fields]) -> Fields:
        """Add the ranges. Each branch is one index scan in the list's order; MongoDB merges them."""
        choices = [[{field: value} for value in values] for field, values in self.alternatives]
        branches = [_all([*self.predicates, *choice]) for choice in product(*choices, ranges)]
        if len(branches) > MAX_BRANCHES:
            return _all([self.document(), {"$or": ranges}])
        return {"$or": branches} if len(branches) > 1 else branches[0]


def query_of(filters: Fields, thresholds: Iterable[Threshold]) -> Query | None:
    """Return the query of a list; None if nothing can match.

    Args:
        filters: ``q``; ``tags``, ``namespaces`` (any of them); ``all_tags``; ``alias``; ``created_after`` and
            ``updated_after`` (inclusive), ``…_before`` (exclusive); any other is the value of a field.
    """
    predicates: list[Fields] = []
    alternatives: list[tuple[str, list[str]]] = []
    periods: dict[str, dict[str, object]] = {}
    for name, value in filters.items():
        match name:
            case "q":
                terms = words(str(value))
                if not terms:
                    return None
                predicates += [{"terms": term} for term in terms]
            case "tags" | "namespaces" if isinstance(value, list):
                if not value:
                    return None
                alternatives.append((_ANY_OF[name], list(dict.fromkeys(value))))
            case "all_tags" if isinstance(value, list):
                predicates += [{"tags": tag} for tag in value]
            case "alias":
                predicates.append({"aliases": value})
            case "created_after" | "updated_after":
                periods.setdefault(name.replace("after", "at"), {})["$gte"] = value
            case "created_before" | "updated_before":
                periods.setdefault(name.replace("before", "at"), {})["$lt"] = value
            case _:
                predicates.append({name: value})
    predicates += [{field: period} for field, period in periods.items()]
    predicates += [threshold.predicate() for threshold in thresholds]
    return Query(predicates, alternatives)


class ModelSearch:
    def __init__(self, database: Database) -> None:
        self._models = database.models
        self._sample = ModelSample(database.models)
        self._counted: dict[str, tuple[State, Total]] = {}
        self._counting = ThreadPoolExecutor(_COUNTS, thread_name_prefix="count")

    def find(
        self, query: Query, order: Order, *, skip: int, limit: int, after: Position | None, stubs: bool
    ) -> list[Model]:
        """Return the matches in order, beginning after a position or ``skip``.

        Args:
            stubs: return only the fields that identify a document's state and its position in the order;
                otherwise all fields except those that only the search reads.

        Raises:
            InvalidPosition: ``after`` is not a position of this order.
        """
        query = self._rarest_word_first(query)
        wanted = query.document() if after is None else query.within(order.ranges_after(after))
        fields: list[str] | dict[str, bool] = [*STUB, *(field for field, _ in order.keys)]
        if not stubs:
            fields = _SHOWN if order.metric is None else _SHOWN_WITH_METRICS
        cursor = self._models.find(wanted, fields, sort=order.keys, skip=skip, limit=limit)
        return list(cursor.batch_size(limit).max_time_ms(FIND_MS))

    def _rarest_word_first(self, query: Query) -> Query:
        """Let the index find only the rarest word, since MongoDB would reuse its plan for other words too."""
        terms = [predicate for predicate in query.predicates if "terms" in predicate]
        if len(terms) < 2:
            return query
        rarest = min(terms, key=lambda term: self._sample.matching([term])[0])
        others: list[Fields] = [
            {"$in": [{"$literal": term["terms"]}, "$terms"]} for term in terms if term is not rarest
        ]
        rest = [predicate for predicate in query.predicates if "terms" not in predicate]
        return Query([rarest, {"$expr": {"$and": others}}, *rest], query.alternatives)

    def load(self, model_ids: list[StoredId]) -> list[Model]:
        """Return the documents that exist, in any order, without the fields that only the search reads."""
        return list(self._models.find({"_id": {"$in": model_ids}}, _SHOWN, batch_size=len(model_ids) + 1))

    def total(self, query: Query) -> Callable[[], Total]:
        """Return a function that waits for the total: counted if that is fast, otherwise estimated.

        In a large registry, counting starts now and runs in parallel with the caller.
        """
        of_all = self._models.estimated_document_count()
        parts = query.parts()
        if of_all <= COUNTED:
            return lambda: Total(self._count(_all(parts)), False)
        if not parts:
            return lambda: Total(of_all, True)
        sampled, share = self._sample.matching(parts)
        estimate = int(share * of_all)
        if sampled >= SURE_SAMPLED and estimate > ESTIMATED_FROM:
            return lambda: Total(estimate, True)
        return self._counting.submit(self._counted_total, parts, of_all, estimate).result

    def _counted_total(self, parts: list[Fields], of_all: int, estimate: int) -> Total:
        state, key = self._state(of_all), repr(parts)
        kept_state, kept = self._counted.get(key, (None, None))
        if kept is not None and kept_state == state:
            return kept
        if len(parts) > 1:
            total = self._total_of_several(parts, of_all)
        else:
            counted = self._count(parts[0], limit=COUNTED + 1)
            many = counted > COUNTED
            total = Total(max(counted, estimate) if many else counted, many)
        if state is not None:
            if len(self._counted) >= KEPT_TOTALS:
                self._counted.clear()
            self._counted[key] = state, total
        return total

    def _state(self, of_all: int) -> State:
        """Return a value that changes with every model; None if a recent change may hide another."""
        newest = self._models.find_one({}, ["updated_at"], sort=[("updated_at", -1), ("_id", -1)])
        at = now()
        if newest is None or (at - newest["updated_at"]).total_seconds() < SETTLED_S:
            return None
        return of_all, newest["_id"], newest["updated_at"], int(at.timestamp() // KEPT_S)

    def _total_of_several(self, parts: list[Fields], of_all: int) -> Total:
        """Return the total for several predicates, by reading some matches of the rarest one."""
        sampled = [self._sample.matching([part]) for part in parts]
        (_, share), rarest = min(zip(sampled, parts, strict=True), key=lambda one: one[0][0])
        stages: list[Fields] = [
            {"$match": rarest},
            {"$limit": READ},
            {"$match": _all([part for part in parts if part is not rarest])},
            {"$count": "matching"},
        ]
        counted = next(iter(rows(self._models.aggregate(stages, maxTimeMS=FIND_MS), _Count)), None)
        found = counted["matching"] if counted is not None else 0
        perhaps_all = share * of_all < 5 * READ
        if perhaps_all and self._count(rarest, limit=READ + 1) <= READ:
            return Total(found, False)
        return Total(int(max(found, found / READ * share * of_all)), True)

    def _count(self, query: Fields, limit: int = 0) -> int:
        """Count by the count command, which takes half as long as the aggregation of ``count_documents``."""
        command: dict[str, object] = {
            "count": self._models.name,
            "query": query,
            "limit": limit,
            "maxTimeMS": FIND_MS,
        }
        if not query:
            command["hint"] = "_id_"  # otherwise the result is metadata that a crash can leave wrong
        return int(self._models.database.command(command)["n"])


def _all(documents: list[Fields]) -> Fields:
    """Combine the predicates in one document, flat if no two have the same field."""
    fields = [field for document in documents for field in document]
    if len(set(fields)) < len(fields):
        return {"$and": documents}
    return {field: value for document in documents for field, value in document.items()}
