"""The inputs on which an artefact is compared with its source, and the source's outputs for them.

The inputs are seeded, so that a model is always tested with the same ones: random inputs at several sizes of
every dynamic axis (``sizes``), probes from the model's own tables (``Source.probes``), and the stored
samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base import Case, Source, copied
from ..errors import InvalidSource, UnsupportedOption, as_limit
from . import integers, samples, sizes, ties
from .probing import Prober

_OTHERS = 6  # extra cases if no axis is dynamic: the batch may be 1, and a weight may decide in few rows only


@dataclass(frozen=True)
class Plan:
    """The cases of a comparison.

    ``source``: the source with its dynamic axes narrowed to the sizes that it accepts. ``rejected``: the
    label of each probe that it rejects, with the reason.
    """

    source: Source
    cases: list[Case]
    rejected: Mapping[str, str] = field(default_factory=dict)


def plan(source: Source, sample_inputs: Path | None = None, seed: int = 0) -> list[Case]:
    """Return the cases of ``examine``, with the sample inputs of a file."""
    return examine(samples.attach(source, sample_inputs), seed).cases


def examine(source: Source, seed: int = 0) -> Plan:
    """Choose the cases: base, other sizes (or other values without a dynamic axis), probes, samples.

    Raises:
        InvalidSource: the source fails on every size tried, returns different outputs for the same inputs,
            runs at one size of a dynamic axis only, or rejects the sample inputs.
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
    """Run the source's own probes. A rejected probe is dropped, unless its kind is ``typical``.

    Raises:
        InvalidSource: the source rejects typical values.
    """
    cases = []
    for kind, inputs in prober.source.probes():
        # An axis that the probes vary may have been fixed in the meantime.
        if not all(samples.has_shape(inputs[spec.name], spec) for spec in prober.source.inputs):
            continue
        label = f"{kind} values"
        case = prober.probe_rows(label, inputs, kind)
        if kind == "typical" and label in prober.rejected:
            raise InvalidSource(
                f"The model fails on values within the range that it was fitted on: {prober.rejected[label]}"
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
    """Return the source without dynamic axes: the given sizes, a batch of 1, the other axes as traced.

    Raises:
        UnsupportedOption: a size that the source does not allow, or an axis that it does not have.
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
        again = source.reference(copied(case.inputs))
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            "The model accepts inputs the first time and rejects them the second time: "
            f"{str(exc)[:300]}. Store sample inputs that it accepts."
        ) from exc
    for name, first in case.expected.items():
        if not np.allclose(first, again[name], rtol=1e-3, atol=1e-6, equal_nan=True):
            raise InvalidSource(
                f"The model returns a different {name!r} for the same inputs each time. Call "
                "model.eval() before you save it, and remove random numbers from its forward()."
            )
