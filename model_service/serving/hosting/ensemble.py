"""A chain of members: each takes inputs of the request and outputs of earlier members, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_service.serving.common.warm_up import LoadFailed
from model_service.serving.engine.engine import ModelRun, Ran
from model_service.serving.hosting.member import Model, Processing

if TYPE_CHECKING:
    from exporters.base import Arrays, TensorSpec

# A member's input name → its source: an input of the request, or "member.output".
Sources = Mapping[str, str]


class Ensemble:
    """A chain of members. Its inputs are those that no member produces; its outputs the last member's."""

    def __init__(self, name: str, steps: Sequence[tuple[Model, Sources | None]]) -> None:
        """Connect the steps. Raises LoadFailed if an input has no source, or the source does not fit."""
        self.name = name
        self._steps = _bound(steps)
        first, last = self._steps[0].model, self._steps[-1].model
        self.model_version = last.model_version
        self.format = "ensemble"
        self.inputs = _inputs(self._steps)
        self.outputs = last.outputs
        self.mixes_rows = any(model.mixes_rows for model, _ in steps)
        self.pipeline: Processing = _Ends(first.pipeline, last.pipeline, self._steps[0].sources)

    def run_now(self, inputs: Arrays) -> Ran | None:
        return None

    def submit(self, inputs: Arrays, caller: str = "") -> asyncio.Future[Ran]:
        return asyncio.ensure_future(self._run(inputs, caller))

    async def _run(self, inputs: Arrays, caller: str) -> Ran:
        known: dict[str, Any] = dict(inputs)
        seconds = 0.0
        runs: tuple[ModelRun, ...] = ()
        ran = None
        for step in self._steps:
            given = {name: known[source] for name, source in step.sources.items()}
            ran = step.model.run_now(given) or await step.model.submit(given, caller)
            seconds += ran.seconds
            runs += ran.runs
            known |= {f"{step.model.name}.{name}": array for name, array in ran.outputs.items()}
        assert ran is not None
        return Ran(ran.outputs, seconds, runs)


@dataclass(frozen=True)
class _Step:
    model: Model
    sources: Sources


class _Ends:
    """Processing of a chain: the first member's for images or texts, the last one's for predictions.

    ``sources``: the chain's names of the first member's inputs.
    """

    def __init__(self, first: Processing, last: Processing, sources: Sources) -> None:
        self._first = first
        self._sources = sources
        self.takes = first.takes
        self.table = first.table
        self.missing = frozenset(sources[name] for name in first.missing)
        self.preprocessing = first.preprocessing
        self.postprocessing = last.postprocessing
        self.classes = last.classes
        self.predictions = last.predictions

    def records(self, data: Any, limit_bytes: int | None = None) -> Arrays:
        inputs = self._first.records(data, limit_bytes)
        return {self._sources[name]: array for name, array in inputs.items()}

    def prepare(self, items: Sequence[Any]) -> tuple[Arrays, list[Any] | None]:
        inputs, geometries = self._first.prepare(items)
        return {self._sources[name]: array for name, array in inputs.items()}, geometries


def _bound(steps: Sequence[tuple[Model, Sources | None]]) -> list[_Step]:
    made: dict[str, TensorSpec] = {}
    makers = tuple(f"{model.name}." for model, _ in steps)
    bound: list[_Step] = []
    before: tuple[TensorSpec, ...] = ()
    for model, given in steps:
        sources = dict(given) if given else _by_themselves(model, [spec.name for spec in before], bound)
        unknown = sources.keys() - {spec.name for spec in model.inputs}
        if unknown:
            raise LoadFailed(f"{model.name} has no input {sorted(unknown)[0]!r}.")
        for spec in model.inputs:
            source = sources.setdefault(spec.name, spec.name)
            if source.startswith(makers) and source not in made:
                raise LoadFailed(
                    f"{model.name} takes {spec.name!r} from {source!r}, but no earlier member has "
                    f"that output; the outputs so far: {', '.join(made) or 'none'}."
                )
            if source in made and not _fits(made[source], spec):
                raise LoadFailed(
                    f"{source!r} is {_type_text(made[source])}, but {model.name} takes {_type_text(spec)} as "
                    f"{spec.name!r}."
                )
        bound.append(_Step(model, sources))
        made |= {f"{model.name}.{spec.name}": spec for spec in model.outputs}
        before = model.outputs
    return bound


def _by_themselves(model: Model, before: Sequence[str], bound: Sequence[_Step]) -> dict[str, str]:
    """Connect inputs without a declared source: outputs of the previous member by name, or by position."""
    if not bound:
        return {}
    maker = bound[-1].model.name
    names = [spec.name for spec in model.inputs]
    same = {name: f"{maker}.{name}" for name in names if name in before}
    if same or len(names) != len(before):
        return same
    return {name: f"{maker}.{output}" for name, output in zip(names, before, strict=True)}


def _inputs(steps: Sequence[_Step]) -> tuple[TensorSpec, ...]:
    """Return the inputs of the request: every source that no member produces, in the order of first use."""
    makers = tuple(f"{step.model.name}." for step in steps)
    found: dict[str, TensorSpec] = {}
    for step in steps:
        for spec in step.model.inputs:
            source = step.sources[spec.name]
            if not source.startswith(makers):
                found.setdefault(source, type(spec)(source, spec.dtype, spec.shape))
    return tuple(found.values())


def _fits(made: TensorSpec, taken: TensorSpec) -> bool:
    return (
        made.dtype == taken.dtype
        and len(made.shape) == len(taken.shape)
        and all(
            isinstance(one, str) or isinstance(other, str) or one == other
            for one, other in zip(made.shape, taken.shape, strict=True)
        )
    )


def _type_text(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{', '.join(map(str, spec.shape))}]"
