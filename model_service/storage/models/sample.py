"""A random sample of the model versions in memory, to estimate how common a predicate is.

If a list has too many matches to count, its total is estimated from the sample. If a list has several
predicates, the sample shows which of them is the rarest.
"""

import operator
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, cast

from pymongo.collection import Collection

from model_service.storage.common.documents import Fields
from model_service.storage.models.documents import Model
from model_service.storage.models.search import METRIC_ORDER

# Maximum size, and a share below the 5 % up to which MongoDB picks random documents instead of reading all.
SAMPLE = 2_000
SAMPLED_PART = 21
KEPT_S = 300.0
_LEFT_OUT = dict.fromkeys(
    ("description", "hyperparameters", "metrics", "dataset_info", "signature", "files"), False
)
_TIMES = ("created_at", "updated_at")
# Only values of one type are compared, as a field has one type.
_OPERATORS = {"$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}

Members = set[int] | frozenset[int]


class _Ordered(Protocol):
    def __lt__(self, other: object, /) -> bool: ...
    def __le__(self, other: object, /) -> bool: ...
    def __ge__(self, other: object, /) -> bool: ...


class ModelSample:
    """The sample. Safe to use from any thread; one renews it while the others use the old one."""

    def __init__(self, models: Collection[Model]) -> None:
        self._models = models
        self._sampled = _Sampled([])
        self._until = 0.0
        self._renewing = threading.Lock()

    def matching(self, predicates: Iterable[Fields]) -> tuple[int, float]:
        """Return how many sampled documents match all predicates (of one field each), and their share."""
        sampled = self._current()
        sets = [sampled.members(*item) for predicate in predicates for item in predicate.items()]
        fewest, *others = sorted(sets, key=len)
        count = len(frozenset(fewest).intersection(*others))
        return count, count / sampled.size if sampled.size else 0.0

    def _current(self) -> "_Sampled":
        if time.monotonic() >= self._until and self._renewing.acquire(blocking=not self._sampled.size):
            try:
                if time.monotonic() >= self._until:
                    self._sampled = self._read()
                    self._until = time.monotonic() + KEPT_S
            finally:
                self._renewing.release()
        return self._sampled

    def _read(self) -> "_Sampled":
        size = max(1, min(SAMPLE, self._models.estimated_document_count() // SAMPLED_PART))
        return _Sampled(self._models.aggregate([{"$sample": {"size": size}}, {"$project": _LEFT_OUT}]))


class _Sampled:
    """Indexes the sampled documents by value: a look-up for equality, a scan for bounds."""

    def __init__(self, documents: Iterable[Model]) -> None:
        self.size = 0
        self._having: dict[tuple[str, object], set[int]] = defaultdict(set)
        self._values: dict[str, list[tuple[int, _Ordered]]] = defaultdict(list)
        for number, document in enumerate(documents):
            self.size += 1
            for field, value in document.items():
                self._add(number, field, value)

    def _add(self, number: int, field: str, value: object) -> None:
        if field == METRIC_ORDER and isinstance(value, dict):
            for metric, key in value.items():
                self._values[f"{METRIC_ORDER}.{metric}"].append((number, key))
        elif field in _TIMES:
            self._values[field].append((number, cast(_Ordered, value)))
        elif isinstance(value, list):
            for one in value:
                self._having[field, one].add(number)
        elif not isinstance(value, dict):
            self._having[field, value].add(number)

    def members(self, field: str, condition: object) -> Members:
        """Return the matching documents; supports those MongoDB operators that lists use."""
        if not isinstance(condition, dict):
            return self._having.get((field, condition), frozenset())
        if "$in" in condition:
            return frozenset().union(*(self.members(field, value) for value in condition["$in"]))
        bounds = [(_OPERATORS[name], bound) for name, bound in condition.items()]
        return {
            number
            for number, value in self._values.get(field, ())
            if all(within(value, bound) for within, bound in bounds)
        }
