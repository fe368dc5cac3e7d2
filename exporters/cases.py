"""The inputs on which an artefact is compared with its source, and the source's answers to them.

Seeded, so that the same model is always asked the same questions. Every dynamic axis is asked at two sizes:
an artefact that was silently specialised to the traced one fails on the other (pytorch#126607).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .base import Arrays, Case, Dimension, Source, TensorSpec
from .errors import InvalidSource, UnsupportedOption, as_limit

# The batch is 3 first, not 1: a size of 1 broadcasts, and hides what went wrong.
_BATCH_SIZES = (3, 1, 2, 4, 8)
_MOST_TRIES = 100  # to find the rows of a probe that the source takes
_OTHER_SIZES = (16, 24, 32, 64, 128, 224, 256)


def plan(source: Source, sample_inputs: Path | None = None, seed: int = 0) -> list[Case]:
    """The base first; one more per dynamic axis, one with all of them changed, one for samples.

    A program without a dynamic axis is asked twice, with other values.

    Raises:
        InvalidSource: the source fails on every size tried, gives another answer each time, or does not
            take the sample inputs.
    """
    candidates = {name: _candidates(name, dimension) for name, dimension in source.dimensions.items()}
    base_sizes, base = _base(source, candidates, seed)
    _require_repeatable(source, base)
    cases = [base]
    second = dict(base_sizes)
    for name, sizes in candidates.items():
        for size in sizes:
            changed = {**base_sizes, name: size}
            case = _try(source, changed, f"{name}={size}", seed) if size != base_sizes[name] else None
            if case is not None:
                cases.append(case)
                second[name] = size
                break
    if not candidates:
        cases.append(_run(source, {}, "other values", seed + 1))
    elif len(candidates) > 1 or len(cases) == 1:
        cases += _all_changed(source, candidates, base_sizes, second, seed)
    untested = [name for name in candidates if not _seen_at_two_sizes(name, source, cases)]
    if untested:
        raise InvalidSource(
            f"The axis {untested[0]!r} is declared dynamic, but the model itself runs at one of its sizes "
            "only. Export it with that axis fixed.",
            axis=untested[0],
        )
    cases += _probes(source)
    return cases + ([_samples(source, sample_inputs)] if sample_inputs else [])


def _takes(source: Source, inputs: Arrays) -> bool:
    """False where an axis that the probes vary was fixed since."""
    return all(_has_shape(inputs[spec.name], spec) for spec in source.inputs)


def _has_shape(array: npt.NDArray[np.generic], spec: TensorSpec) -> bool:
    return array.ndim == len(spec.shape) and all(
        isinstance(size, str) or have == size for have, size in zip(array.shape, spec.shape, strict=True)
    )


def _probes(source: Source) -> list[Case]:
    """Raises InvalidSource: the source rejects typical values. A row of another class that it rejects is no
    probe."""
    cases = []
    for kind, inputs in source.probes():
        if not _takes(source, inputs):
            continue
        taken, failure = _taken(source, inputs)
        if failure is not None and kind == "typical":
            raise InvalidSource(
                f"The model fails on values of the range that it was fitted on: {str(failure)[:300]}"
            ) from failure
        if taken is not None:
            cases.append(Case(f"{kind} values", *taken, kind))
    return cases


def _taken(source: Source, inputs: Arrays) -> tuple[tuple[Arrays, Arrays] | None, Exception | None]:
    """The rows that the source takes and its answers to them; None where it takes none. Its first failure.

    Rows that fail together are tried in halves, which ends after _MOST_TRIES.
    """
    failure: Exception | None = None
    found: list[tuple[int, Arrays, Arrays]] = []
    todo, tries = [(0, inputs)], 0
    while todo and tries < _MOST_TRIES:
        start, block = todo.pop(0)
        tries += 1
        try:
            found.append((start, block, source.reference({name: one.copy() for name, one in block.items()})))
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            failure = failure or exc
            half = len(next(iter(block.values()))) // 2
            if half:
                todo += [
                    (start, {name: one[:half] for name, one in block.items()}),
                    (start + half, {name: one[half:] for name, one in block.items()}),
                ]
    if not found:
        return None, failure
    found.sort(key=lambda one: one[0])
    return (_joined([block for _, block, _ in found]), _joined([answer for *_, answer in found])), failure


def _joined(blocks: list[Arrays]) -> Arrays:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def fixed(source: Source, sizes: Mapping[str, Any]) -> Source:
    """The source with no dynamic axis left: of ``sizes`` by their names, a batch of 1, the others as traced.

    Raises:
        UnsupportedOption: a size that the source does not allow, or of an axis that it does not have.
        InvalidSource: the source fails at these sizes.
    """
    _check_sizes(source, sizes)
    candidates = {
        name: [sizes[name]] if name in sizes else _candidates(name, dimension)
        for name, dimension in source.dimensions.items()
    }
    if "batch" in candidates and "batch" not in sizes:
        candidates["batch"] = [source.dimensions["batch"].minimum]
    chosen, _ = _base(source, candidates, 0)
    shapes = source.shapes(chosen)
    return replace(
        source,
        inputs=tuple(replace(spec, shape=shapes[spec.name]) for spec in source.inputs),
        dimensions={},
        shapes=lambda sizes: shapes,
    )


def _check_sizes(source: Source, sizes: Mapping[str, Any]) -> None:
    for name, size in sizes.items():
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


def _candidates(name: str, dimension: Dimension) -> list[int]:
    edges = (dimension.minimum, dimension.minimum + 1, dimension.maximum or 0)
    wanted: tuple[int, ...] = (*_OTHER_SIZES, *edges)
    if name == "batch":
        wanted = (*_BATCH_SIZES, *edges)
    elif dimension.example:
        example = dimension.example
        wanted = (example, example * 2, example + 1, example - 1, *_OTHER_SIZES, *edges)
    return [size for size in dict.fromkeys(wanted) if dimension.allows(size)]


def _base(source: Source, candidates: Mapping[str, list[int]], seed: int) -> tuple[dict[str, int], Case]:
    failure: Exception | None = None
    for turn in range(max((len(sizes) for sizes in candidates.values()), default=1)):
        sizes = {
            name: options[0 if name == "batch" else min(turn, len(options) - 1)]
            for name, options in candidates.items()
        }
        try:
            return sizes, _run(source, sizes, "base", seed)
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            failure = exc
    text = str(failure).strip().splitlines()
    raise InvalidSource(
        "The model fails on inputs of the declared shapes: "
        f"{text[-1][:300] if text else 'no reason given'}. "
        "Check that its inputs and their integer values are as declared.",
    ) from failure


def _all_changed(
    source: Source,
    candidates: Mapping[str, list[int]],
    base_sizes: dict[str, int],
    second: dict[str, int],
    seed: int,
) -> list[Case]:
    """Axes that have to move together, like the sides of a square image, have no case of their own."""
    turns = [second] if all(second[name] != base_sizes[name] for name in candidates) else []
    longest = max((len(sizes) for sizes in candidates.values()), default=0)
    turns += [
        {n: sizes[min(turn, len(sizes) - 1)] for n, sizes in candidates.items()} for turn in range(longest)
    ]
    for sizes in turns:
        if all(sizes[name] != base_sizes[name] for name in candidates):
            label = ",".join(f"{name}={size}" for name, size in sizes.items())
            case = _try(source, sizes, label, seed)
            if case is not None:
                return [case]
    return []


def _try(source: Source, sizes: Mapping[str, int], label: str, seed: int) -> Case | None:
    try:
        return _run(source, sizes, label, seed, "sizes")
    except Exception as exc:
        if limit := as_limit(exc):
            raise limit from exc
        return None


def _run(source: Source, sizes: Mapping[str, int], label: str, seed: int, kind: str = "base") -> Case:
    if source.draw is not None:
        inputs = source.draw(sizes, seed)
    else:
        random = np.random.default_rng(seed)
        shapes = source.shapes(sizes)
        inputs = {
            spec.name: _random(random, spec, shapes[spec.name], source.integers.get(spec.name, (0, 1)))
            for spec in source.inputs
        }
    expected = source.reference({name: array.copy() for name, array in inputs.items()})
    return Case(label, inputs, expected, kind)


def _random(
    random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], bounds: tuple[int, int]
) -> npt.NDArray[np.generic]:
    """Standard normal; an integer stays within what the author traced with, or is 0 or 1."""
    dtype = np.dtype(spec.dtype)
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        return random.integers(bounds[0], bounds[1], shape, dtype=dtype, endpoint=True)
    return np.asarray(random.standard_normal(shape)).astype(dtype)


def _seen_at_two_sizes(name: str, source: Source, cases: list[Case]) -> bool:
    sizes = {
        case.inputs[spec.name].shape[axis]
        for case in cases
        for spec in source.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str) and name in size
    }
    return len(sizes) > 1


def _require_repeatable(source: Source, case: Case) -> None:
    again = source.reference({name: array.copy() for name, array in case.inputs.items()})
    for name, first in case.expected.items():
        if not np.allclose(first, again[name], rtol=1e-3, atol=1e-6, equal_nan=True):
            raise InvalidSource(
                f"The model answers the same inputs with a different {name!r} each time. Call "
                "model.eval() before saving "
                "it, and take random numbers out of its forward()."
            )


def _samples(source: Source, path: Path) -> Case:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Arrays = {name.removeprefix("input:"): archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as exc:
        raise InvalidSource(
            "The sample inputs cannot be read. Save them with numpy.savez(path, **inputs)."
        ) from exc
    names = [spec.name for spec in source.inputs]
    for spec in source.inputs:
        array = arrays.get(spec.name)
        if array is None or str(array.dtype) != spec.dtype or not _has_shape(array, spec):
            raise InvalidSource(
                f"The sample inputs need {spec.name!r} as {spec.dtype} of shape {list(spec.shape)}; "
                f"the model's inputs are {', '.join(names)}."
            )
    inputs = {name: arrays[name] for name in names}
    try:
        expected = source.reference({name: array.copy() for name, array in inputs.items()})
        return Case("samples", inputs, expected, "samples")
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The model fails on the sample inputs: {str(exc)[:300]}"
        ) from exc
