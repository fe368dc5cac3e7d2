"""The conversions from a source to a format, in the order in which they are tried."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .base import ONNX, Artefact, Case, Exporter, Source


@dataclass(frozen=True)
class Conversion:
    """One converter, or two in sequence, that may convert the model correctly."""

    name: str
    convert: Callable[[Case, Path], Artefact]


def of_routes(
    routes: Iterable[tuple[Exporter, ...]], source: Source, options: Mapping[str, Any]
) -> list[Conversion]:
    """Return the conversions of the routes. Raises UnsupportedOption."""
    return [way for route in routes for way in _of_route(route, source, options)]


def _of_route(route: tuple[Exporter, ...], source: Source, options: Mapping[str, Any]) -> list[Conversion]:
    last = route[-1]
    if len(route) == 1:
        return [
            Conversion(name, partial(_in_one_step, last, source, options, name))
            for name in last.converters(source, options)
        ]
    first = route[0]
    own = first.specification.options
    between = first.specification.validate({name: value for name, value in options.items() if name in own})
    return [
        Conversion(f"onnx-{name}", partial(_by_onnx, route, source, between, options, name))
        for name in first.converters(source, between)
    ]


def _in_one_step(
    exporter: Exporter,
    source: Source,
    options: Mapping[str, Any],
    converter: str,
    example: Case,
    folder: Path,
) -> Artefact:
    return exporter.convert(source, example, options, folder, converter)


def _by_onnx(
    route: tuple[Exporter, ...],
    source: Source,
    between: Mapping[str, Any],
    options: Mapping[str, Any],
    converter: str,
    example: Case,
    folder: Path,
) -> Artefact:
    """Convert through ONNX. The ONNX file is not part of the result, which is compared with the source."""
    first, last = route
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        onnx = first.convert(source, example, between, Path(scratch), converter)
        middle = replace(source, family=ONNX, program=Path(scratch) / onnx.files[0])
        then = next(iter(last.converters(middle, options)))
        artefact = last.convert(middle, example, options, folder, then)
    return replace(artefact, converter=f"onnx-{converter}")
