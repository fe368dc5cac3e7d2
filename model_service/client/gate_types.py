"""Records of promotion gates, approvals, and the history of an alias."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from model_service.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Gate(Record):
    """The rules that a version must meet to get the alias."""

    name: str
    alias: str
    rules: dict[str, Any]
    set_by: str
    updated_at: datetime

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"updated_at": datetime.fromisoformat}


@dataclass(frozen=True, kw_only=True)
class Condition(Record):
    """One condition of a gate. ``found`` of a missing one says what to do."""

    condition: str
    passed: bool
    required: str
    found: str


def _conditions(found: list[Any]) -> tuple[Condition, ...]:
    return tuple(Condition.from_json(each) for each in found)


@dataclass(frozen=True, kw_only=True)
class CheckedGate(Record):
    """Whether the caller may move the alias to the version. Without a gate, every version passes."""

    name: str
    version: str
    model_id: str
    alias: str
    gated: bool
    passed: bool
    conditions: tuple[Condition, ...] = ()

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"conditions": _conditions}


@dataclass(frozen=True, kw_only=True)
class Approval(Record):
    """A user's approval of a version for an alias; it holds for the version's present files."""

    id: str
    model_id: str
    name: str
    version: str
    alias: str
    approved_by: str
    comment: str | None = None
    created_at: datetime

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"created_at": datetime.fromisoformat}


@dataclass(frozen=True, kw_only=True)
class AliasEvent(Record):
    """A change of an alias, of its gate or of its approvals."""

    at: datetime
    actor: str
    action: str
    version: str | None = None
    comment: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    parsers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"at": datetime.fromisoformat}
