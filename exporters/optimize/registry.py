"""The list of all techniques. A new one is a file in this package and a line here."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from . import absent
from .base import Technique

_MODULES = (
    "exporters.optimize.dynamic",
    "exporters.optimize.static",
    "exporters.optimize.qat",
    "exporters.optimize.float16",
    "exporters.optimize.palettization",
    "exporters.optimize.structured",
    "exporters.optimize.unstructured",
    "exporters.optimize.distillation",
)

Techniques = Mapping[str, Mapping[str, Technique]]
"""Section → method → technique."""


def techniques() -> Techniques:
    """Return every technique. Imports no framework.

    Raises:
        ValueError: two of them have the same section and method.
    """
    found: dict[str, dict[str, Technique]] = {}
    for technique in (*(import_module(module).TECHNIQUE for module in _MODULES), *absent.TECHNIQUES):
        methods = found.setdefault(technique.section, {})
        if technique.method in methods:
            raise ValueError(f"There are two techniques {technique.section}.{technique.method}")
        methods[technique.method] = technique
    return found


def describe(format_name: str) -> dict[str, Any]:
    """Return section → method → its fields, or the reason why the format does not support it."""
    return {
        section: {
            method: {
                "supported": technique.why_not(format_name) is None,
                "reason": technique.why_not(format_name),
                "fields": {name: field.explain() for name, field in technique.fields.items()},
            }
            for method, technique in methods.items()
        }
        for section, methods in techniques().items()
    }
