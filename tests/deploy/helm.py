"""Helm, in a process of its own: its library takes over the signals of the process that loads it."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any


class SchemaError(ValueError):
    """The chart's schema rejects the values."""


def render(chart: Path, values: Mapping[str, Any], name: str, namespace: str) -> dict[str, str]:
    """Return path in the chart → what it renders. Raises: SchemaError."""
    rendered = _process().submit(_render, chart, dict(values), name, namespace).result()
    if isinstance(rendered, str):
        raise SchemaError(rendered)
    return rendered


def lint(chart: Path, values: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    return _process().submit(_lint, chart, dict(values), namespace).result()


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _render(chart: Path, values: dict[str, Any], name: str, namespace: str) -> dict[str, str] | str:
    """Return the files, or why the schema rejects the values: to read Helm's errors loads its library."""
    import helm_python

    with helm_python.Chart.load(chart) as loaded:
        try:
            loaded.validate_schema(values)
        except helm_python.HelmValuesError as exc:
            return str(exc)
        return loaded.render(values, name=name, namespace=namespace)


def _lint(chart: Path, values: dict[str, Any], namespace: str) -> dict[str, Any]:
    import helm_python

    return helm_python.lint(chart, values, strict=True, namespace=namespace)
