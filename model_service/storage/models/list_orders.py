"""The sort orders of lists of model versions, and the cursor positions in them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_service.storage.common.db import object_id
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.models.documents import Model
from model_service.storage.models.search import metric_field, metric_key

METRIC = "metrics."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Each ends with a key that makes the order total; the directions are those of the ascending order.
_KEYS: dict[str, list[tuple[str, int]]] = {
    "created_at": [("created_at", 1), ("_id", 1)],
    "updated_at": [("updated_at", 1), ("_id", 1)],
    "download_count": [("download_count", 1), ("_id", 1)],
    "size_bytes": [("size_bytes", 1), ("_id", 1)],
    "name": [("name", 1), ("version_order", -1)],  # a name's newest version first
    "version": [("version_order", 1)],  # of one name
}
SORTS = (*_KEYS, f"{METRIC}NAME")
Position = list[object]  # JSON: a value for each key of the order


class InvalidPosition(Exception):
    """The value is not a position of that order."""


@dataclass(frozen=True)
class Order:
    name: str
    descending: bool

    @property
    def metric(self) -> str | None:
        """The metric to sort by. The order excludes models without it, so the query must require it too."""
        return self.name.removeprefix(METRIC) if self.name.startswith(METRIC) else None

    @property
    def keys(self) -> list[tuple[str, int]]:
        keys = _KEYS[self.name] if self.metric is None else [(metric_field(self.metric), 1)]
        return [(field, -direction if self.descending else direction) for field, direction in keys]

    def position(self, document: Model) -> Position:
        """Return the position of a stored document, which must have the fields of ``keys``."""
        if self.metric is not None:
            name = metric_field(self.metric).partition(".")[2]
            return [document["metric_order"][name].hex()]
        fields: Fields = document
        return [_CODECS[field][0](fields[field]) for field, _ in self.keys]

    def ranges_after(self, position: Position) -> list[Fields]:
        """Return filters for the documents after the position; one index scan serves each.

        Raises:
            InvalidPosition.
        """
        if len(position) != len(self.keys):
            raise InvalidPosition
        values = [self._read(field, value) for (field, _), value in zip(self.keys, position, strict=True)]
        ranges: list[Fields] = []
        before: dict[str, object] = {}
        for (field, direction), value in zip(self.keys, values, strict=True):
            ranges.append({**before, field: {"$gt" if direction > 0 else "$lt": value}})
            before[field] = value
        return ranges

    def _read(self, field: str, value: object) -> object:
        decode = _key_from_hex if self.metric is not None else _CODECS[field][1]
        try:
            return decode(value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidPosition from None


def order_of(sort: str) -> Order | None:
    """Parse an order; a leading ``-`` means descending. None if there is no such order."""
    name = sort.removeprefix("-")
    known = name in _KEYS or (name.startswith(METRIC) and name != METRIC)
    return Order(name, descending=sort.startswith("-")) if known else None


def _milliseconds(moment: object) -> int:
    assert isinstance(moment, datetime)
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: object) -> datetime:
    return _EPOCH + _integer(milliseconds) * _MILLISECOND


def _integer(value: object) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _id(value: object) -> StoredId:
    parsed = object_id(_text(value))
    if parsed is None:
        raise ValueError
    return parsed


def _key_from_hex(value: object) -> bytes:
    key = bytes.fromhex(_text(value))
    if len(key) != len(metric_key(0, _id("0" * 24))):
        raise ValueError
    return key


def _same(value: object) -> object:
    return value


# How a field's value is written to JSON and read from it.
_CODECS: dict[str, tuple[Callable[[object], object], Callable[[object], object]]] = {
    "created_at": (_milliseconds, _moment),
    "updated_at": (_milliseconds, _moment),
    "download_count": (_same, _integer),
    "size_bytes": (_same, _integer),
    "version_order": (_same, _integer),
    "name": (_same, _text),
    "_id": (str, _id),
}
