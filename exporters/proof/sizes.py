"""Find the sizes of dynamic axes that the source accepts, and those at which the artefact is compared.

The batch is tried at 3, 1, 2 and 7 rows, and with none. Any other axis is tried at the smallest size that the
source accepts, at the next one, at the one after the base (no multiple of a stride), and at a large one.
Rejected sizes narrow the axis: its minimum, its maximum, and the number that every size is a multiple of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..base import EMPTY, Case, Dimension, Source
from ..errors import InvalidSource, as_limit
from . import rows
from .probing import Prober, elements, is_finite

_BATCH = "batch"
# The batch is 3 first, not 1: a size of 1 broadcasts, which hides errors.
_BATCH_SIZES = (3, 1, 2, 7)
# onnxruntime 1.31 aborts the process on an empty batch of these.
_RECURRENT = {"lstm", "gru", "rnn", "rnn_tanh", "rnn_relu"}
_OTHER_SIZES = (16, 24, 32, 64, 128, 224, 256)
# The most elements of a probe's inputs: of one larger than the base, and of one eight times as large.
_MOST_ELEMENTS = 1 << 21
_FEW_ELEMENTS = 1 << 16


def candidates(name: str, dimension: Dimension) -> list[int]:
    """Return the sizes to try for the base case, best first."""
    edges = (dimension.minimum, dimension.minimum + 1, dimension.maximum or 0)
    wanted: tuple[int, ...] = (*_OTHER_SIZES, *edges)
    if name == _BATCH:
        wanted = (*_BATCH_SIZES, 4, 8, *edges)
    elif dimension.example:
        example = dimension.example
        wanted = (example, example * 2, example + 1, example - 1, *wanted)
    return [size for size in dict.fromkeys(wanted) if dimension.allows(size)]


def base(prober: Prober, options: Mapping[str, list[int]]) -> tuple[dict[str, int], Case]:
    """Return the first sizes of ``options`` that the source runs on, and its outputs there.

    Raises:
        InvalidSource: the source runs on none of them.
    """
    failure: Exception | None = None
    for sizes in _turns(options):
        for inputs in prober.inputs(sizes):
            try:
                case = prober.run("base", inputs, "base")
            except Exception as exc:
                if limit := as_limit(exc):
                    raise limit from exc
                failure = exc
                continue
            if prober.source.samples is None or is_finite(case):
                return sizes, case
    text = str(failure or "all its outputs are NaN").strip().splitlines()
    raise InvalidSource(
        "The model fails on inputs of the declared shapes: "
        f"{text[-1][:300] if text else 'no reason given'}. Check the declared inputs and their "
        "integer values, or store sample inputs with the model.",
    ) from failure


def _turns(options: Mapping[str, list[int]]) -> Iterator[dict[str, int]]:
    """Combine the first batch with all sizes of the other axes, then every other batch."""
    turns = max((len(sizes) for name, sizes in options.items() if name != _BATCH), default=1)
    for batch in options.get(_BATCH, [0]):
        for turn in range(turns):
            yield {
                name: batch if name == _BATCH else sizes[min(turn, len(sizes) - 1)]
                for name, sizes in options.items()
            }


def explore(prober: Prober, base_sizes: Mapping[str, int], base_case: Case) -> tuple[Source, list[Case]]:
    """Return the source with narrowed axes, and the cases at other sizes than the base.

    Raises:
        InvalidSource: an axis has one size only, or the outputs leave out rows of the batch.
    """
    source = prober.source
    found: dict[str, _Axis] = {}
    stuck: list[str] = []
    empty: list[Case] = []
    limit = max(_MOST_ELEMENTS, elements(source.shapes(base_sizes)))
    sizes = dict(base_sizes)
    # The batch comes first: the other axes are then tried with two rows.
    for name in sorted(source.dimensions, key=lambda name: name != _BATCH):
        axis = _Axis((name,), source.dimensions[name], sizes, base_case, prober, limit)
        if name == _BATCH:
            axis.accepts = rows.check_of(prober, base_case)
        if not axis.explore():
            stuck.append(name)
            continue
        found[name] = axis
        if name == _BATCH:
            empty = _empty(prober, sizes, axis.accepts)
            rows.require_all(prober, axis.largest())
            sizes[name] = min(2, base_sizes[name]) if 2 in axis.works() else base_sizes[name]
    together = _together(prober, stuck, sizes, base_case, limit)
    if together is not None:
        found |= dict.fromkeys(stuck, together)
    elif stuck:
        raise InvalidSource(
            f"The axis {stuck[0]!r} is declared dynamic, but the model itself only runs with the "
            f"size {base_sizes[stuck[0]]}. Export it with a fixed axis.",
            axis=stuck[0],
        )
    cases = [case for axis in dict.fromkeys(found.values()) for case in axis.cases()]
    if len(source.dimensions) > 1 and together is None:
        second = {name: axis.second() for name, axis in found.items()}
        case = prober.at(second, ",".join(f"{name}={size}" for name, size in second.items()))
        cases += [case] if case is not None else []
    dimensions = {name: axis.narrowed(source.dimensions[name], name) for name, axis in found.items()}
    return replace(source, dimensions=dimensions), cases + empty


def _empty(
    prober: Prober, sizes: Mapping[str, int], accepts: Callable[[int, Case], str | None]
) -> list[Case]:
    """Return the case of an empty batch, if the source accepts it and returns no rows. Recurrent networks:
    none.
    """
    if prober.source.operators & _RECURRENT or not prober.source.operators:
        return []
    label = f"{_BATCH}=0"
    case = prober.probe(label, prober.random({**sizes, _BATCH: 0}, prober.seed), EMPTY)
    prober.rejected.pop(label, None)  # an empty batch is no size of the axis, whose minimum is 1
    return [case] if case is not None and accepts(0, case) is None else []


def _together(
    prober: Prober, names: list[str], sizes: Mapping[str, int], base_case: Case, limit: int
) -> "_Axis | None":
    """Return the axes that the source accepts only if all change together, like a square image's sides."""
    if len(names) < 2:
        return None
    for ratio in (False, True):
        axis = _Axis(
            tuple(names), prober.source.dimensions[names[0]], dict(sizes), base_case, prober, limit, ratio
        )
        if axis.explore():
            return axis
    return None


@dataclass(eq=False)
class _Axis:
    """One axis, or several that change together, by the same amount or by the same factor."""

    names: tuple[str, ...]
    dimension: Dimension
    base_sizes: dict[str, int]  # of all axes of the source
    base_case: Case
    prober: Prober
    limit: int  # of the elements of a larger probe
    ratio: bool = False
    # Returns an error in the outputs, or None
    accepts: Callable[[int, Case], str | None] = lambda size, case: None
    known: dict[int, Case | None] = field(default_factory=dict)  # size → its case, or None if rejected
    step: int = 1
    low: int = 0
    high: int | None = None

    def __post_init__(self) -> None:
        self.size = self.base_sizes[self.names[0]]
        self.known[self.size] = self.base_case

    def explore(self) -> bool:
        """Find the range that the source accepts. Return False if it accepts one size only."""
        if self.names == (_BATCH,):
            for size in _BATCH_SIZES:
                self.takes(size)
        step = self._find_step()
        if step is None:
            return False
        self.step = step
        first = self.dimension.minimum + -self.dimension.minimum % step
        self.low = self._edge(first)
        if self.low == first:
            self.low = self.dimension.minimum
        self.takes(self.low + step)
        self.high = self.dimension.maximum
        for far in self._far():
            found = self._edge(far)
            if found != far:
                self.high = found
        self._cut_out_rejected()
        return len(self.works()) > 1

    def takes(self, size: int) -> bool:
        """Return whether the source accepts a size.

        The result is also False if the size is not allowed or too large to try.
        """
        if size not in self.known and self._may_ask(size):
            label = ",".join(f"{name}={value}" for name, value in self._moved(size).items())
            case = self.prober.at({**self.base_sizes, **self._moved(size)}, label)
            wrong = self.accepts(size, case) if case is not None else None
            if wrong:
                self.prober.rejected[label] = wrong
            self.known[size] = None if wrong else case
        return self.known.get(size) is not None

    def works(self) -> list[int]:
        """Return the sizes within the range that were tried and accepted."""
        return [size for size, case in sorted(self.known.items()) if case is not None and self._within(size)]

    def largest(self) -> Case:
        case = self.known[self.works()[-1]]
        assert case is not None
        return case

    def second(self) -> int:
        others = [size for size in self.works() if size != self.size]
        return 2 if self.names == (_BATCH,) and 2 in others else others[0]

    def cases(self) -> list[Case]:
        """Return the cases to compare: the range's ends, their neighbours, and the size after the base."""
        works = [size for size in self.works() if size != self.size]
        wanted = {*_BATCH_SIZES} if self.names == (_BATCH,) else {self.size + self.step}
        wanted |= {*works[:2], *works[-1:]}
        return [case for size in works if size in wanted and (case := self.known[size]) is not None]

    def narrowed(self, dimension: Dimension, name: str) -> Dimension:
        moved = self._moved
        high = dimension.maximum if self.high is None else moved(self.high)[name]
        multiple = dimension.multiple if self.step == 1 or self.ratio else self.step
        return replace(
            dimension,
            minimum=max(dimension.minimum, moved(self.low)[name]),
            maximum=high if dimension.maximum is None or high is None else min(high, dimension.maximum),
            multiple=multiple if self.base_sizes[name] % multiple == 0 else dimension.multiple,
        )

    def _moved(self, size: int) -> dict[str, int]:
        first = self.base_sizes[self.names[0]]
        if self.ratio:
            return {name: self.base_sizes[name] * size // first for name in self.names}
        return {name: self.base_sizes[name] + size - first for name in self.names}

    def _may_ask(self, size: int) -> bool:
        moved = self._moved(size)
        if not all(self.prober.source.dimensions[name].allows(value) for name, value in moved.items()):
            return False
        return size <= self.size or elements(self._shapes(size)) <= self.limit

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        return self.prober.source.shapes({**self.base_sizes, **self._moved(size)})

    def _within(self, size: int) -> bool:
        return size >= self.low and (self.high is None or size <= self.high) and size % self.step == 0

    def _find_step(self) -> int | None:
        """Return the smallest divisor of the base's size by which the axis can change, or None."""
        divisors = [step for step in range(1, self.size + 1) if self.size % step == 0]
        if self.ratio:
            divisors = [self.size]
        for step in divisors:
            if self.takes(self.size + step) or self.takes(self.size - step):
                return step
        return None

    def _edge(self, far: int) -> int:
        """Return the accepted size nearest to ``far``, assuming that all sizes up to it are accepted."""
        good, bad = self.size // self.step, far // self.step
        if self.takes(far):
            return far
        while abs(good - bad) > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if self.takes(middle * self.step) else (good, middle)
        return good * self.step

    def _far(self) -> list[int]:
        """Return a large size that can be tried: the maximum, or eight times or twice the base's size."""
        if self.names == (_BATCH,):
            return [size for size in _BATCH_SIZES if size > self.size and self._may_ask(size)][-1:]
        largest = self.dimension.maximum or 8 * self.size
        for size, most in (
            (largest, _FEW_ELEMENTS),
            (8 * self.size, _FEW_ELEMENTS),
            (2 * self.size, self.limit),
        ):
            size -= size % self.step
            if self.size < size and self._may_ask(size) and elements(self._shapes(size)) <= most:
                return [size]
        return []

    def _cut_out_rejected(self) -> None:
        """Exclude rejected sizes: the range ends before them, on the base's side."""
        for size, case in self.known.items():
            if case is None and self._within(size):
                if size < self.size:
                    self.low = size + self.step
                else:
                    self.high = size - self.step
