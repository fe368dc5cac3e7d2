"""Readable sentences for pydantic's errors: what a field must be.

``pattern`` declares a regular expression with the sentence that is shown instead of it.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

_OPTION = re.compile(r"\b[Tt]he option (\w+)")
_PATTERNS: dict[str, str] = {}
_UNITS = {"List": "item", "Set": "item", "Tuple": "item", "Dictionary": "entry"}


def as_field(message: str) -> str:
    """Convert the options in an exporter's message to fields of a request: ``export_config.inputs``."""
    return _OPTION.sub(r"export_config.\1", message).replace("inputs=[{", '"inputs": [{')


def pattern(regex: str, sentence: str) -> Any:
    """Return a pydantic ``Field`` with that pattern, described by the sentence."""
    _PATTERNS[regex] = sentence
    return Field(pattern=regex, description=sentence)


def explain(problem: Mapping[str, Any]) -> str:
    """Return what the field of a pydantic error must be, without a full stop at the end.

    Args:
        problem: an item of ``ValidationError.errors()``, with its context.
    """
    context = problem.get("ctx", {})
    match problem["type"]:
        case "string_pattern_mismatch":
            return _PATTERNS.get(context["pattern"], "does not have the format of this field")
        case "string_too_short":
            return _at_least(context["min_length"], "character")
        case "string_too_long":
            return _at_most(context["max_length"], "character")
        case "too_short":
            return _at_least(context["min_length"], _UNITS.get(context["field_type"], "character"))
        case "too_long":
            return _at_most(context["max_length"], _UNITS.get(context["field_type"], "character"))
        case "value_error":
            return str(problem["msg"]).removeprefix("Value error, ")
    return str(problem["msg"])


def _at_least(number: int, unit: str) -> str:
    return "must not be empty" if number == 1 else f"at least {_count(number, unit)}"


def _at_most(number: int, unit: str) -> str:
    return f"at most {_count(number, unit)}"


def _count(number: int, unit: str) -> str:
    plural = "entries" if unit == "entry" else f"{unit}s"
    return f"{number:,} {unit if number == 1 else plural}"
