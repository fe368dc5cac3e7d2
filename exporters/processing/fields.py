"""The fields of a declaration: the values that each accepts, its default, and the error for a wrong value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedOption

REQUIRED = object()


@dataclass(frozen=True)
class Field:
    default: Any
    allowed: str
    accepts: Callable[[Any], bool]


def one_of(default: Any, *values: Any) -> Field:
    words = " or ".join(", ".join(map(str, values)).rsplit(", ", 1))
    return Field(default, words, lambda value: isinstance(value, type(values[0])) and value in values)


def boolean(default: bool) -> Field:
    return Field(default, "true or false", lambda value: isinstance(value, bool))


def integer(default: Any, low: int, high: int) -> Field:
    return Field(default, f"an integer from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def number(default: Any, low: float, high: float) -> Field:
    return Field(default, f"a number from {low:g} to {high:g}", lambda v: finite(v) and low <= v <= high)


def finite(value: Any) -> bool:
    """Return whether float32 can hold the number; a number in JSON may have any number of digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def list_of(what: str, accepts: Callable[[Any], bool], default: Any = REQUIRED) -> Field:
    return Field(default, what, lambda value: isinstance(value, list) and accepts(value))


Section = Mapping[str, Field]


def section(path: str, given: Any, fields: Section) -> dict[str, Any]:
    """Return every field of the section: the given value, or the default if it is missing or null."""
    part = path.partition(".")[0]
    if not isinstance(given, Mapping):
        raise refused(part, f"{path} is not an object", list(fields))
    known(path, given, fields)
    done = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is None:
            if field.default is REQUIRED:
                raise refused(part, f"{path} needs {name}: {field.allowed}", field.allowed)
            done[name] = field.default
        elif not field.accepts(value):
            raise refused(
                part, f"{path}.{name} must be {field.allowed}, not {str(value)[:40]}", field.allowed
            )
        else:
            done[name] = value
    return done


def known(path: str, given: Mapping[str, Any], names: Any) -> None:
    if not isinstance(given, Mapping):
        raise refused(path, f"{path} is not an object", list(names))
    for name in given:
        if name not in names:
            raise refused(
                path.partition(".")[0],
                f"{path}.{str(name)[:40]} is not supported; supported are {', '.join(names)}",
                list(names),
            )


def refused(part: str, sentence: str, allowed: Any) -> UnsupportedOption:
    return UnsupportedOption(f"{sentence}.", allowed=allowed, option=part)
