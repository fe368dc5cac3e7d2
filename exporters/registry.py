"""The one explicit list of formats. A new one is a file in ``formats`` and a line here."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from .base import Exporter, Specification
from .errors import MissingDependency, UnsupportedOption

_MODULES = ("exporters.formats.torch_to_onnx",)


def load(modules: Iterable[str]) -> dict[str, Exporter]:
    """Name → exporter.

    Raises:
        ValueError: two of them claim one name.
    """
    found: dict[str, Exporter] = {}
    for module in modules:
        exporter = cast(Exporter, import_module(module))
        name = exporter.SPECIFICATION.name
        if name in found:
            raise ValueError(f"{module} registers the format {name!r}, which exists already")
        found[name] = exporter
    return found


def specifications() -> tuple[Specification, ...]:
    """Every format, installed or not; reading them imports no framework."""
    return tuple(exporter.SPECIFICATION for exporter in load(_MODULES).values())


def specification(name: str) -> Specification:
    """Raises UnsupportedOption for an unknown format."""
    return _find(name).SPECIFICATION


def get(name: str) -> Exporter:
    """The exporter of a format.

    Raises:
        UnsupportedOption: there is no such format.
        MissingDependency: its toolchain is not installed.
    """
    exporter = _find(name)
    missing = why_unavailable(exporter.SPECIFICATION)
    if missing:
        raise MissingDependency(missing, format=name)
    return exporter


def why_unavailable(spec: Specification) -> str | None:
    """Why this machine cannot make a format, in one line; None when it can."""
    missing = [module for module in spec.requires if find_spec(module) is None]
    if not missing:
        return None
    return f"{spec.name} needs {', '.join(missing)}: pip install 'model-service[worker]'."


def _find(name: str) -> Exporter:
    formats = load(_MODULES)
    if name not in formats:
        raise UnsupportedOption(
            f"There is no export format {name[:64]!r}; there is {', '.join(formats)}.",
            allowed=list(formats),
            option="format",
        )
    return formats[name]
