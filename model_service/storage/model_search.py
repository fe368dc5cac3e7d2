"""Lists of model versions: what matches, in which order, from where on, and how many there are.

Every list is one query that an index answers in the list's order, or a sort of the little that a selective
index found. A cursor's page begins with a range, never with a skip: the last one costs what the first does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from model_service.storage.db import Database, Document
from model_service.storage.list_orders import Order
from model_service.storage.model_sample import ModelSample
from model_service.storage.models import DERIVED
from model_service.storage.search import metric_at_least, metric_at_most, metric_field, words

EXACT_TOTAL = 10_000  # what one predicate matches is counted up to here
READ_TOTAL = 1_000  # and of what several match, so many are read to see
ENOUGH_SAMPLED = 30  # an estimate from them is right within a third, nearly always
FIND_MS = 10_000
MAX_BRANCHES = 40  # of a cursor's $or; past it the page is sorted in memory
_SHOWN = dict.fromkeys(DERIVED, False)
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

    def find(
        self, query: Query, order: Order, *, skip: int, limit: int, after: list[Any] | None
    ) -> list[Document]:
        """The matching documents in order, from a position of ``order`` on or after ``skip`` of them.

        Raises:
            InvalidPosition: ``after`` is none of this order.
        """
        wanted = query.document() if after is None else query.within(order.ranges_after(after))
        cursor = self._models.find(wanted, _SHOWN, sort=order.keys, skip=skip, limit=limit)
        return list(cursor.batch_size(limit).max_time_ms(FIND_MS))

    def total(self, query: Query) -> Total:
        """How many match: counted where that is quick, else estimated."""
        of_all = self._models.estimated_document_count()
        parts = query.parts()
        if len(parts) > 1:
            return self._total_of_several(parts, of_all)
        if parts:
            return self._total_of_one(parts[0], of_all)
        many = of_all > EXACT_TOTAL
        return Total(of_all if many else self._count({}, of_all, hint="_id_"), many)

    def _total_of_one(self, part: Document, of_all: int) -> Total:
        """An index alone counts what one predicate matches."""
        estimate = 0
        if of_all > EXACT_TOTAL:
            estimate = int(self._sample.matching([part], of_all)[1] * of_all)
            if estimate > 2 * EXACT_TOTAL:
                return Total(estimate, True)
        counted = self._count(part, EXACT_TOTAL + 1)
        return Total(max(counted, estimate), True) if counted > EXACT_TOTAL else Total(counted, False)

    def _total_of_several(self, parts: list[Document], of_all: int) -> Total:
        """Where the sample has too few, the versions of the rarest predicate are read, up to READ_TOTAL."""
        if of_all <= READ_TOTAL:
            return Total(self._count(_all(parts), of_all), False)
        sampled, share = self._sample.matching(parts, of_all)
        if sampled >= ENOUGH_SAMPLED and share * of_all > READ_TOTAL:
            return Total(int(share * of_all), True)
        shares = [self._sample.matching([part], of_all)[1] for part in parts]
        rarest = parts[shares.index(min(shares))]
        stages: list[Document] = [
            {"$match": rarest},
            {"$limit": READ_TOTAL},
            {"$match": _all([part for part in parts if part is not rarest])},
            {"$count": "matching"},
        ]
        found = next(iter(self._models.aggregate(stages, maxTimeMS=FIND_MS)), {"matching": 0})["matching"]
        if self._count(rarest, READ_TOTAL + 1) <= READ_TOTAL:
            return Total(found, False)
        return Total(int(max(found, found / READ_TOTAL * min(shares) * of_all)), True)

    def _count(self, query: Document, limit: int, **options: Any) -> int:
        return self._models.count_documents(query, limit=max(1, limit), maxTimeMS=FIND_MS, **options)


def _all(documents: list[Document]) -> Document:
    """One document with every predicate, flat where no two are about the same field."""
    fields = [field for document in documents for field in document]
    if len(set(fields)) < len(fields):
        return {"$and": documents}
    return {field: value for document in documents for field, value in document.items()}
