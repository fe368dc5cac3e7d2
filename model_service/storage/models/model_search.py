"""Lists of model versions: what matches, in which order, from where on, and how many there are.

Every list is one query that an index answers in the list's order, or a sort of the little that a selective
index found. A cursor's page begins with a range, never with a skip: the last one costs what the first does.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

from model_service.storage.common.db import Database, Document, now
from model_service.storage.models.list_orders import Order
from model_service.storage.models.models import DERIVED
from model_service.storage.models.sample import ModelSample
from model_service.storage.models.search import (
    METRIC_ORDER,
    metric_at_least,
    metric_at_most,
    metric_field,
    words,
)

COUNTED = 10_000  # a registry of up to so many is counted for every total; so is what one predicate matches
ESTIMATED_FROM = 20_000  # in a larger one the sample decides from here on,
SURE_SAMPLED = 5  # if it has so many
READ = 100  # of what has the rarest of several predicates, so many are read to see how many have the others
FIND_MS = 10_000
# What was counted holds until a model changes. Of changes this young another may still be under way.
SETTLED_S = 1.0
KEPT_S = 60.0
KEPT_TOTALS = 1_000
_COUNTS = 8  # at once, of all lists of the process
MAX_BRANCHES = 40  # of a cursor's $or; past it the page is sorted in memory
STUB = ("revision", "updated_at", "download_count", "scans")
_SHOWN = dict.fromkeys(DERIVED, False)
_SHOWN_WITH_METRICS = {field: False for field in DERIVED if field != METRIC_ORDER}
_ANY_OF = {"tags": "tags", "namespaces": "namespace"}


@dataclass(frozen=True)
class Threshold:
    """Bounds of a metric, both of them in; None is no bound."""

    metric: str
    least: float | None = None
    most: float | None = None

    def predicate(self) -> Document:
        least = metric_at_least(float("-inf") if self.least is None else self.least)
        most = metric_at_most(float("inf") if self.most is None else self.most)
        return {metric_field(self.metric): {"$gte": least, "$lte": most}}


State = tuple[Any, ...] | None


@dataclass(frozen=True)
class Total:
    count: int
    is_estimate: bool


@dataclass(frozen=True)
class Query:
    """What a document must match: every predicate, and of each field's alternatives one."""

    predicates: list[Document]
    alternatives: list[tuple[str, list[str]]]

    def parts(self) -> list[Document]:
        """Predicates about one field each."""
        return self.predicates + [{field: {"$in": values}} for field, values in self.alternatives]

    def document(self) -> Document:
        return _all(self.parts())

    def within(self, ranges: list[Document]) -> Document:
        """In one of the ranges too. Each branch is one scan in the list's order; mongod merges them."""
        choices = [[{field: value} for value in values] for field, values in self.alternatives]
        branches = [_all([*self.predicates, *choice]) for choice in product(*choices, ranges)]
        if len(branches) > MAX_BRANCHES:
            return _all([self.document(), {"$or": ranges}])
        return {"$or": branches} if len(branches) > 1 else branches[0]


def query_of(filters: Mapping[str, Any], thresholds: Iterable[Threshold]) -> Query | None:
    """The query of a list; None where nothing can match.

    Args:
        filters: ``q``; ``tags``, ``namespaces`` (any of them); ``all_tags``; ``alias``; ``created_after`` and
            ``updated_after`` (from then on), ``…_before`` (until before then); any other is a field's value.
    """
    predicates: list[Document] = []
    alternatives: list[tuple[str, list[str]]] = []
    periods: dict[str, Document] = {}
    for name, value in filters.items():
        match name:
            case "q":
                terms = words(value)
                if not terms:
                    return None
                predicates += [{"terms": term} for term in terms]
            case "tags" | "namespaces":
                if not value:
                    return None
                alternatives.append((_ANY_OF[name], list(dict.fromkeys(value))))
            case "all_tags":
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
        self, query: Query, order: Order, *, skip: int, limit: int, after: list[Any] | None, stubs: bool
    ) -> list[Document]:
        """What matches, in order, from a position of ``order`` on or after ``skip`` of them.

        Args:
            stubs: only what tells two states of a document apart and what its position in the order needs;
                else all but what only the search reads.

        Raises:
            InvalidPosition: ``after`` is none of this order.
        """
        query = self._rarest_word_first(query)
        wanted = query.document() if after is None else query.within(order.ranges_after(after))
        fields: Any = [*STUB, *(field for field, _ in order.keys)]
        if not stubs:
            fields = _SHOWN if order.metric is None else _SHOWN_WITH_METRICS
        cursor = self._models.find(wanted, fields, sort=order.keys, skip=skip, limit=limit)
        return list(cursor.batch_size(limit).max_time_ms(FIND_MS))

    def _rarest_word_first(self, query: Query) -> Query:
        """The index is asked for the rarest word alone; mongod would keep its choice for other words too."""
        terms = [predicate for predicate in query.predicates if "terms" in predicate]
        if len(terms) < 2:
            return query
        rarest = min(terms, key=lambda term: self._sample.matching([term])[0])
        others: list[Document] = [
            {"$in": [{"$literal": term["terms"]}, "$terms"]} for term in terms if term is not rarest
        ]
        rest = [predicate for predicate in query.predicates if "terms" not in predicate]
        return Query([rarest, {"$expr": {"$and": others}}, *rest], query.alternatives)

    def load(self, model_ids: list[Any]) -> list[Document]:
        """Those of the documents that are there, in any order, without what only the search reads of them."""
        return list(self._models.find({"_id": {"$in": model_ids}}, _SHOWN, batch_size=len(model_ids) + 1))

    def total(self, query: Query) -> Callable[[], Total]:
        """How many match: counted where that is quick, else estimated. What is returned waits for it.

        In a large registry it is counted from now on, beside what the caller does until it asks.
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

    def _counted_total(self, parts: list[Document], of_all: int, estimate: int) -> Total:
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
        """What differs after any change of a model; None while one is so recent that it may hide another."""
        newest = self._models.find_one({}, ["updated_at"], sort=[("updated_at", -1), ("_id", -1)])
        at = now()
        if newest is None or (at - newest["updated_at"]).total_seconds() < SETTLED_S:
            return None
        return of_all, newest["_id"], newest["updated_at"], int(at.timestamp() // KEPT_S)

    def _total_of_several(self, parts: list[Document], of_all: int) -> Total:
        """Few match: of those that match the rarest predicate some are read."""
        sampled = [self._sample.matching([part]) for part in parts]
        (_, share), rarest = min(zip(sampled, parts, strict=True), key=lambda one: one[0][0])
        stages: list[Document] = [
            {"$match": rarest},
            {"$limit": READ},
            {"$match": _all([part for part in parts if part is not rarest])},
            {"$count": "matching"},
        ]
        found = next(iter(self._models.aggregate(stages, maxTimeMS=FIND_MS)), {"matching": 0})["matching"]
        perhaps_all = share * of_all < 5 * READ
        if perhaps_all and self._count(rarest, limit=READ + 1) <= READ:
            return Total(found, False)
        return Total(int(max(found, found / READ * share * of_all)), True)

    def _count(self, query: Document, limit: int = 0) -> int:
        """``count_documents``, which is an aggregation and takes twice as long as the command does."""
        command: Document = {"count": self._models.name, "query": query, "limit": limit, "maxTimeMS": FIND_MS}
        if not query:
            command["hint"] = "_id_"  # else the answer would be a figure that a crash leaves wrong
        return int(self._models.database.command(command)["n"])


def _all(documents: list[Document]) -> Document:
    """One document with every predicate, flat where no two are about the same field."""
    fields = [field for document in documents for field in document]
    if len(set(fields)) < len(fields):
        return {"$and": documents}
    return {field: value for document in documents for field, value in document.items()}
