"""A random sample of the model versions, kept in the process: how common is what lists ask for?

Where a list matches too many to count, its total is estimated from this; and where a list has several
predicates, this tells which of them few versions match.
"""

import operator
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pymongo.collection import Collection

from model_service.storage.db import Document

# At most so many, and less than the 5 % up to which mongod picks documents at random instead of reading all.
SAMPLE = 2_000
SAMPLED_PART = 21
KEPT_S = 300.0
_METRICS = "metric_order."
_LEFT_OUT = dict.fromkeys(
    ("description", "hyperparameters", "metrics", "dataset_info", "signature", "files"), False
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class ModelSample:
    """Safe to use from any thread; one of them renews it while the others go on with the old one."""

    def __init__(self, models: Collection[Document]) -> None:
        self._models = models
        self._documents: list[Document] = []
        self._until = 0.0
        self._renewing = threading.Lock()

    def matching(self, predicates: Iterable[Document], of_all: int) -> tuple[int, float]:
        """How many of the sample match all of the predicates, each about one field, and what part that is.

        Args:
            of_all: how many versions there are, about.
        """
        documents = self._current(of_all)
        whole = len(documents)
        for predicate in predicates:
            for field, condition in predicate.items():
                documents = _matching(documents, field, condition)
        return len(documents), len(documents) / whole if whole else 0.0

    def _current(self, of_all: int) -> list[Document]:
        if time.monotonic() >= self._until and self._renewing.acquire(blocking=not self._documents):
            try:
                if time.monotonic() >= self._until:
                    self._documents = self._read(of_all)
                    self._until = time.monotonic() + KEPT_S
            finally:
                self._renewing.release()
        return self._documents

    def _read(self, of_all: int) -> list[Document]:
        size = max(1, min(SAMPLE, of_all // SAMPLED_PART))
        found = self._models.aggregate([{"$sample": {"size": size}}, {"$project": _LEFT_OUT}])
        return [_flat(document) for document in found]


def _flat(document: Document) -> Document:
    """Metrics under their paths, and lists as sets."""
    metrics = {f"{_METRICS}{name}": key for name, key in document.pop("metric_order", {}).items()}
    return metrics | {
        name: frozenset(value) if name in ("terms", "tags", "aliases") else value
        for name, value in document.items()
    }


def _matching(documents: list[Document], field: str, condition: Any) -> list[Document]:
    """As MongoDB's operators of the same names match, of those that the lists use."""
    if not isinstance(condition, dict):
        condition = {"$in": [condition]}
    for name, wanted in condition.items():
        if name == "$in":
            values = frozenset(wanted)
            documents = [one for one in documents if _any_of(one.get(field), values)]
        else:
            compare = _OPERATORS[name]
            documents = [
                one for one in documents if (value := one.get(field)) is not None and compare(value, wanted)
            ]
    return documents


def _any_of(value: Any, wanted: frozenset[Any]) -> bool:
    return not wanted.isdisjoint(value) if isinstance(value, frozenset) else value in wanted
