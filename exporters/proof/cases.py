"""The inputs on which an artefact is compared with its source, and the source's answers to them.

Seeded, so that the same model is always asked the same questions: random inputs at several sizes of every
dynamic axis (``sizes``), what the model's own tables tell (``Source.probes``), and the stored samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base import Case, Source
from ..errors import InvalidSource, UnsupportedOption, as_limit
from . import integers, samples, sizes, ties
from .probing import Prober

_OTHERS = 6  # of a source without a dynamic axis, whose batch may be 1: a weight may decide in few rows alone


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
    prober = Prober(source, seed)
    options = {name: sizes.candidates(name, dimension) for name, dimension in source.dimensions.items()}
    base_sizes, base = sizes.base(prober, options)
    _require_repeatable(source, base)
    cases = [base]
    if source.dimensions:
        source, more = sizes.explore(prober, base_sizes, base)
        cases += more
    else:
        for number in range(1, _OTHERS + 1):
            label = "other values" if number == 1 else f"other values {number}"
            other = prober.probe(label, prober.random({}, seed + number), "base")
            cases += [other] if other is not None else []
    cases += integers.probes(prober, base) + ties.probes(prober, base) + ties.infinities(prober, base)
    return Plan(source, cases + _probes(prober) + _samples(prober), prober.rejected)


def _probes(prober: Prober) -> list[Case]:
    """Raises InvalidSource: the source rejects typical values. A row of another class that it rejects is no
    probe.
    """
    cases = []
    for kind, inputs in prober.source.probes():
        # An axis that the probes vary may have been fixed since.
        if not all(samples.has_shape(inputs[spec.name], spec) for spec in prober.source.inputs):
            continue
        label = f"{kind} values"
        case = prober.probe_rows(label, inputs, kind)
        if kind == "typical" and label in prober.rejected:
            raise InvalidSource(
                f"The model fails on values of the range that it was fitted on: {prober.rejected[label]}"
            )
        cases += [case] if case is not None else []
    return cases


def _samples(prober: Prober) -> list[Case]:
    cases = []
    for number, inputs in enumerate(samples.parts(prober.source)):
        try:
            cases.append(prober.run(f"samples {number}" if number else "samples", inputs, "samples"))
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
    chosen, _ = sizes.base(Prober(source), options)
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
