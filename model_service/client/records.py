"""The base classes of the service's responses: frozen records, and pages of them.

A field that this version does not know is only kept in ``raw``, so that an older client works with a newer
service. Times are aware ``datetime`` in UTC.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

from model_service.client.errors import UnexpectedAnswer


@dataclass(frozen=True, kw_only=True)
class Record:
    """A response. ``raw`` is the service's JSON, unchanged; ``record["name"]`` reads from it."""

    raw: Mapping[str, Any] = field(repr=False, compare=False)

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Parse a response. Raises UnexpectedAnswer if ``data`` lacks a required field."""
        try:
            known = {f.name: data[f.name] for f in fields(cls) if f.name in data and f.name != "raw"}
            for name, parse in cls.parsers.items():
                if known.get(name) is not None:
                    known[name] = parse(known[name])
            return cls(raw=data, **known)
        except (TypeError, ValueError, AttributeError) as exc:
            raise UnexpectedAnswer(f"The service's response is not a {cls.__name__}: {exc}.") from exc

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]


def named(given: str | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a registration; ``given`` is a name, or a mapping with any of the fields."""
    return {**({"name": given} if isinstance(given, str) else given or {}), **fields}


Item = TypeVar("Item", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """One page of a list; ``total`` counts the matches on all ``pages``. Pages are numbered from 1.

    A page requested by ``cursor`` has no number, and its matches are not counted: ``page``, ``total`` and
    ``pages`` are None. ``next_cursor``, if the list supports it, requests the next page.
    """

    items: tuple[Item, ...]
    page: int | None
    limit: int
    total: int | None
    pages: int | None
    total_is_estimate: bool = False
    next_cursor: str | None = None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], key: str, item: type[Item]) -> "Page[Item]":
        try:
            shape = {name: data["pagination"][name] for name in ("page", "limit", "total", "pages")}
            estimate = bool(data["pagination"].get("total_is_estimate"))
            cursor = data["pagination"].get("next_cursor")
            items = tuple(item.from_json(each) for each in data[key])
            return cls(items=items, raw=data, **shape, total_is_estimate=estimate, next_cursor=cursor)
        except (KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswer(f"The service's response is not a page of {key}: {exc!r}.") from exc
