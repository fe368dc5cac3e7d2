"""Run probes on a source model: seeded inputs of chosen sizes, its outputs, and the rejected inputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, Source, TensorSpec, copied
from ..errors import as_limit, reason
from .samples import resized

_MOST_TRIES = 1_000  # to find the rows of a probe that the source accepts

_Places = npt.NDArray[np.intp]  # of rows


@dataclass
class Prober:
    """Runs a source model. ``rejected``: label of each probe that the source rejects, with its error."""

    source: Source
    seed: int = 0
    rejected: dict[str, str] = field(default_factory=dict)

    def run(self, label: str, inputs: Arrays, kind: str) -> Case:
        """Run the source on copies of the inputs. Raises the source's own errors."""
        return Case(label, inputs, self.source.reference(copied(inputs)), kind)

    def probe(self, label: str, inputs: Arrays, kind: str) -> Case | None:
        """Run the source on the inputs and return the case.

        If the source rejects them, record the reason in ``rejected`` and return None.

        Raises:
            LimitExceeded: the memory or the time of the conversion has run out: no fault of the inputs.
        """
        try:
            return self.run(label, inputs, kind)
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            self.rejected[label] = reason(exc)
            return None

    def probe_rows(self, label: str, inputs: Arrays, kind: str) -> Case | None:
        """Run the rows that the source accepts; return None if it accepts none. Rejected rows are recorded.

        Rows that fail together are retried in parts, depth first, up to _MOST_TRIES runs.
        """
        failure: Exception | None = None
        found: list[tuple[_Places, Case]] = []
        missing = _missing(inputs)
        rejecting = np.zeros(missing.shape[1], bool)
        todo, tries, refused = [np.arange(_rows(inputs))], 0, 0
        while todo and tries < _MOST_TRIES:
            rows = todo.pop()
            tries += 1
            try:
                block = {name: one[rows] for name, one in inputs.items()}
                found.append((rows, self.run(label, block, kind)))
            except Exception as exc:
                if limit := as_limit(exc):
                    raise limit from exc
                failure = failure or exc
                if len(rows) > 1:
                    todo += [rows[part] for part in reversed(_parts(missing[rows], rejecting))]
                else:
                    refused += 1
                    if np.count_nonzero(missing[rows]) == 1:
                        rejecting |= missing[rows[0]]
        if failure is not None:
            untried = sum(map(len, todo))
            counts = f"{refused} of {_rows(inputs)} rows rejected, {untried} not tried"
            self.rejected[label] = f"{reason(failure)} ({counts})"
        if not found:
            return None
        order = np.argsort(np.concatenate([rows for rows, _ in found]))
        inputs, expected = (
            _joined([getattr(case, part) for _, case in found], order) for part in ("inputs", "expected")
        )
        return Case(label, inputs, expected, kind)

    def inputs(self, sizes: Mapping[str, int], seed: int | None = None) -> Iterable[Arrays]:
        """Yield random inputs of these sizes, then the model's samples if it has some."""
        yield self.random(sizes, self.seed if seed is None else seed)
        if self.source.samples is not None:
            yield resized(self.source.samples, self.source.shapes(sizes))

    def at(self, sizes: Mapping[str, int], label: str) -> Case | None:
        """Run random inputs; if the source rejects them, the samples; return None if it rejects both."""
        for inputs in self.inputs(sizes):
            case = self.probe(label, inputs, "sizes")
            if case is not None and (self.source.samples is None or is_finite(case)):
                self.rejected.pop(label, None)
                return case
        return None

    def random(self, sizes: Mapping[str, int], seed: int) -> Arrays:
        if self.source.draw is not None:
            return self.source.draw(self.source.shapes(sizes), seed)
        random = np.random.default_rng(seed)
        shapes, integers = self.source.shapes(sizes), self.source.integers
        drawn = {
            spec.name: _random(random, spec, shapes[spec.name], integers.get(spec.name, (0, 1)))
            for spec in self.source.inputs
        }
        return drawn | copied(self.source.values)


def _rows(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _missing(inputs: Arrays) -> npt.NDArray[np.bool_]:
    """Return which values of each row are not finite, bool[rows, values of a row]; only tables have any."""
    tables = [one for one in inputs.values() if one.ndim == 2 and one.dtype.kind == "f"]
    none = np.zeros((_rows(inputs), 0), bool)
    return np.concatenate([none, *(~np.isfinite(one) for one in tables)], axis=1)


def _parts(missing: npt.NDArray[np.bool_], rejecting: npt.NDArray[np.bool_]) -> list[_Places]:
    """Return the parts in which rows that failed together are retried, in this order.

    Rows with one missing value go first: they show in which columns a missing value rejects its row
    (``rejecting``). Rows without one in these columns then run together, and the others one by one. All other
    rows are halved.
    """
    alone = np.count_nonzero(missing, axis=1) == 1
    if alone.any() and not alone.all():
        return [np.flatnonzero(alone), np.flatnonzero(~alone)]
    suspect = (missing & rejecting).any(axis=1)
    if suspect.any():
        others = np.flatnonzero(~suspect)
        return [*([others] if len(others) else []), *np.flatnonzero(suspect)[:, None]]
    return np.array_split(np.arange(len(missing)), 2)


def _joined(blocks: list[Arrays], order: _Places) -> Arrays:
    return {name: np.concatenate([block[name] for block in blocks])[order] for name in blocks[0]}


def is_finite(case: Case) -> bool:
    """Return whether every output has a finite number: an output of nothing but NaN proves nothing."""
    return all(array.dtype.kind != "f" or np.isfinite(array).any() for array in case.expected.values())


def elements(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())


def _random(
    random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], bounds: tuple[int, int]
) -> npt.NDArray[np.generic]:
    """Draw standard normal floats; integers within the range that was traced, or 0 and 1."""
    dtype = np.dtype(spec.dtype)
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        return random.integers(bounds[0], bounds[1], shape, dtype=dtype, endpoint=True)
    return np.asarray(random.standard_normal(shape)).astype(dtype)
