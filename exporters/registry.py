"""The list of all formats. A new one is a file in ``formats`` and a line here."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from . import imports
from .base import FAMILIES, LIBRARIES, ONNX, Exporter, Source
from .errors import MissingDependency, UnsupportedOption
from .options import Specification

_MODULES = (
    "exporters.formats.torch_to_onnx",
    "exporters.formats.estimator_to_onnx",
    "exporters.formats.estimator_to_pickle",
    "exporters.formats.torch_to_torchscript",
    "exporters.formats.torch_to_openvino",
    "exporters.formats.onnx_to_openvino",
    "exporters.formats.onnx_to_tensorrt",
    "exporters.formats.torch_to_pt2",
    "exporters.formats.torch_to_tflite",
    "exporters.formats.torch_to_coreml",
    "exporters.formats.torch_to_pytorch",
    "exporters.formats.onnx_to_onnx",
)

Routes = dict[str, dict[str, Exporter]]
"""Format → family of sources → exporter."""


def load(modules: Iterable[str]) -> Routes:
    """Import the exporters.

    Raises:
        ValueError: two of them convert one family to one format, or describe one format differently.
    """
    found: Routes = {}
    for module in modules:
        exporter: Exporter = import_module(module).EXPORTER
        name = exporter.specification.name
        routes = found.setdefault(name, {})
        for family in exporter.takes:
            if family in routes:
                raise ValueError(
                    f"{module} converts {family!r} to {name!r}, but another exporter does so already"
                )
            routes[family] = exporter
        if any(other.specification is not exporter.specification for other in routes.values()):
            raise ValueError(f"{module} declares a second specification of {name!r}")
    return found


def specifications() -> tuple[Specification, ...]:
    """Return every format, installed or not. Imports no framework."""
    return tuple(_any(routes).specification for routes in load(_MODULES).values())


def specification(name: str) -> Specification:
    """Return a format's specification. Raises UnsupportedOption for an unknown format."""
    return _any(_find(name)).specification


def routes(name: str, family: str, options: Mapping[str, Any] | None = None) -> list[tuple[Exporter, ...]]:
    """Return the conversions from a family of sources to a format, best first: one step, or two through ONNX.

    ``options`` (complete) determine the required modules; None: the defaults.

    Raises:
        UnsupportedOption: no such format, or no conversion to it from this family.
        MissingDependency: no conversion's toolchain can be imported.
    """
    found_routes = _routes_to(name, family)
    if not found_routes:
        raise UnsupportedOption(
            f"This kind of model cannot be converted to {name}; that format supports "
            f"{', '.join(kinds(name))}.",
            allowed=kinds(name),
            option="format",
        )
    possible = [route for route in found_routes if not _missing(_needed(route, options))]
    if not possible:
        raise MissingDependency(
            _advice(found_routes[0], _missing(_needed(found_routes[0], options))), format=name
        )
    return possible


def presented(route: tuple[Exporter, ...], source: Source, options: Mapping[str, Any]) -> Source:
    """Return the source as the artefact with these options presents it, for the comparison.

    Raises:
        UnsupportedOption: the options contradict the source.
    """
    return route[-1].presented(source, options)


def kinds(name: str) -> list[str]:
    """Return the kinds of checkpoints that can be converted to a format."""
    return [kind for kind, family in FAMILIES.items() if _routes_to(name, family)]


def why_unavailable(
    name: str, family: str | None = None, found: Mapping[str, str | None] | None = None
) -> str | None:
    """Return why this machine cannot create a format (from such sources), in one line; None if it can.

    ``found``: the result of ``imports.failures`` for ``modules()``; None: import them into this process.
    """
    families = dict.fromkeys(FAMILIES.values()) if family is None else [family]
    found_routes = [route for one in families for route in _routes_to(name, one)]
    missing = [_missing(_needed(route), found) for route in found_routes]
    return None if not all(missing) else _advice(found_routes[0], missing[0]) if found_routes else None


def why_not_loaded(library: str, found: Mapping[str, str | None] | None = None) -> str | None:
    """Return why checkpoints of one of ``base.LIBRARIES`` cannot be loaded here. ``found``: see above."""
    missing = _missing(LIBRARIES[library], found)
    return _what_is_wrong(f"A checkpoint of {library}", missing, Exporter.advice) if missing else None


def modules() -> list[str]:
    """Return every module that some export imports with default options."""
    of_formats = {module for spec in specifications() for module in requirements(spec.name)}
    return sorted(of_formats.union(*LIBRARIES.values()))


def steps(name: str, family: str) -> int:
    """Return the smallest number of steps to a format from such sources; 0: it cannot be converted."""
    return min(map(len, _routes_to(name, family)), default=0)


def requirements(name: str) -> list[str]:
    """Return the modules that the conversions to a format import."""
    return sorted({module for exporter in _find(name).values() for module in exporter.modules})


def _routes_to(name: str, family: str) -> list[tuple[Exporter, ...]]:
    formats = load(_MODULES)
    ends = _find(name)
    found: list[tuple[Exporter, ...]] = [(ends[family],)] if family in ends else []
    to_onnx = formats[ONNX].get(family)
    by_onnx = ONNX in ends and name != ONNX and family not in (ONNX, *ends[ONNX].not_of)
    if by_onnx and to_onnx is not None:
        found.append((to_onnx, ends[ONNX]))
    return found


def _needed(route: tuple[Exporter, ...], options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    last = route[-1]
    needed = [module for exporter in route[:-1] for module in exporter.modules]
    needed += last.modules if options is None else last.requires(options)
    return tuple(dict.fromkeys(needed))


def _missing(modules: Iterable[str], found: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return module → why it cannot be imported."""
    reasons = {module: imports.why_not(module) if found is None else found[module] for module in modules}
    return {module: reason for module, reason in reasons.items() if reason is not None}


def _advice(route: tuple[Exporter, ...], missing: Mapping[str, str]) -> str:
    last = route[-1]
    return _what_is_wrong(last.specification.name, missing, last.advice)


def _what_is_wrong(name: str, missing: Mapping[str, str], advice: str) -> str:
    if set(missing.values()) == {imports.ABSENT}:
        return f"{name} needs {', '.join(missing)}: {advice}"
    reasons = {
        reason: [module for module in missing if missing[module] == reason] for reason in missing.values()
    }
    found = "; ".join(f"{', '.join(modules)} {reason}" for reason, modules in reasons.items())
    return f"{name} needs packages that fail here: {found}."


def _any(routes: dict[str, Exporter]) -> Exporter:
    return next(iter(routes.values()))


def _find(name: str) -> dict[str, Exporter]:
    formats = load(_MODULES)
    if name not in formats:
        raise UnsupportedOption(
            f"There is no export format {name[:64]!r}; the formats are {', '.join(formats)}.",
            allowed=list(formats),
            option="format",
        )
    return formats[name]
