"""The inputs on which an artefact is compared with its source, and the source's answers to them.

Seeded, so that the same model is always asked the same questions: random inputs at several sizes of every
dynamic axis (``sizes``), what the model's own tables tell (``Source.probes``), and the stored samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import integers, samples, sizes
from .asking import Asker
from .base import Case, Source
from .errors import InvalidSource, UnsupportedOption, as_limit


@dataclass(frozen=True)
class Plan:
    """``source``: with its dynamic axes narrowed to the sizes that it takes.

    ``rejected``: the label of each probe that it does not take, and the reason.
    """

    source: Source
    cases: list[Case]
    rejected: Mapping[str, str] = field(default_factory=dict)


def plan(source: Source, sample_inputs: Path | None = None, seed: int = 0) -> list[Case]:
    """The cases of ``examine``, with the sample inputs of a file."""
    return examine(samples.attach(source, sample_inputs), seed).cases


def examine(source: Source, seed: int = 0) -> Plan:
    """The base first; then other sizes, or where there is no dynamic axis other values; probes; samples.

    Raises:
        InvalidSource: the source fails on every size tried, gives another answer each time, runs at one size
            of a dynamic axis only, or does not take the sample inputs.
    """
    ask = Asker(source, seed)
    options = {name: sizes.candidates(name, dimension) for name, dimension in source.dimensions.items()}
    base_sizes, base = sizes.base(ask, options)
    _require_repeatable(source, base)
    cases = [base]
    if source.dimensions:
        source, more = sizes.explore(ask, base_sizes, base)
        cases += more
    else:
        other = ask.probe("other values", ask.random({}, seed + 1), "base")
        cases += [other] if other is not None else []
    cases += integers.probes(ask, base)
    return Plan(source, cases + _probes(ask) + _samples(ask), ask.rejected)


def _probes(ask: Asker) -> list[Case]:
    """Raises InvalidSource: the source rejects typical values. A row of another class that it rejects is no
    probe.
    """
    cases = []
    for kind, inputs in ask.source.probes():
        # An axis that the probes vary may have been fixed since.
        if not all(samples.has_shape(inputs[spec.name], spec) for spec in ask.source.inputs):
            continue
        label = f"{kind} values"
        case = ask.probe_rows(label, inputs, kind)
        if kind == "typical" and label in ask.rejected:
            raise InvalidSource(
                f"The model fails on values of the range that it was fitted on: {ask.rejected[label]}"
            )
        cases += [case] if case is not None else []
    return cases


def _samples(ask: Asker) -> list[Case]:
    cases = []
    for number, inputs in enumerate(samples.parts(ask.source)):
        try:
            cases.append(ask.run(f"samples {number}" if number else "samples", inputs, "samples"))
        except Exception as exc:
            raise as_limit(exc) or InvalidSource(
                f"The model fails on the sample inputs: {str(exc)[:300]}"
            ) from exc
    return cases


def fixed(source: Source, sizes_of: Mapping[str, Any]) -> Source:
    """The source with no dynamic axis left: of the given sizes, a batch of 1, the others as traced.

    Raises:
        UnsupportedOption: a size that the source does not allow, or of an axis that it does not have.
        InvalidSource: the source fails at these sizes.
    """
    _check_sizes(source, sizes_of)
    options = {
        name: [sizes_of[name]] if name in sizes_of else sizes.candidates(name, dimension)
        for name, dimension in source.dimensions.items()
    }
    if "batch" in options and "batch" not in sizes_of:
        options["batch"] = [source.dimensions["batch"].minimum]
    chosen, _ = sizes.base(Asker(source), options)
    shapes = source.shapes(chosen)
    return replace(
        source,
        inputs=tuple(replace(spec, shape=shapes[spec.name]) for spec in source.inputs),
        dimensions={},
        shapes=lambda sizes: shapes,
    )


def _check_sizes(source: Source, wanted: Mapping[str, Any]) -> None:
    for name, size in wanted.items():
        dimension = source.dimensions.get(name)
        whole = isinstance(size, int) and not isinstance(size, bool)
        if dimension is None or not whole or not dimension.allows(size):
            allowed = {key: [one.minimum, one.maximum] for key, one in source.dimensions.items()}
            raise UnsupportedOption(
                f"fixed_sizes cannot set {name!r} to {size}: the model's dynamic axes are "
                f"{', '.join(map(repr, allowed)) or 'none'}, each within its range.",
                allowed=allowed,
                option="fixed_sizes",
            )


def _require_repeatable(source: Source, case: Case) -> None:
    try:
        again = source.reference({name: array.copy() for name, array in case.inputs.items()})
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The model answers inputs once and rejects them the second time: {str(exc)[:300]}. Store sample "
            "inputs that it takes."
        ) from exc
    for name, first in case.expected.items():
        if not np.allclose(first, again[name], rtol=1e-3, atol=1e-6, equal_nan=True):
            raise InvalidSource(
                f"The model answers the same inputs with a different {name!r} each time. Call "
                "model.eval() before saving "
                "it, and take random numbers out of its forward()."
            )
