"""One export of a deployment, loaded and proven once more on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from exporters import golden, package, runners
from exporters.errors import as_limit
from exporters.independence import rows_are_independent
from exporters.processing.pipeline import Pipeline
from exporters.runners.bounded import most_rows
from model_service.serving import protocols
from model_service.serving.engine import INLINE_S, Batching, Cost, Engine, Lane, Ran

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from exporters.base import Arrays, Case, TensorSpec

_WARM_RUNS = 3
_MAYBE_TINY_BYTES = 20_000_000  # no model of a larger package


class LoadFailed(Exception):
    """The package cannot be served; the message says why."""


class Processing(protocols.Processing, Protocol):
    """Both sides of a model: ``exporters.processing.pipeline.Pipeline``, or those of a chain's two ends."""

    def predictions(
        self, outputs: Mapping[str, Any], geometries: Sequence[Any] | None = None, **overrides: Any
    ) -> list[Any] | None: ...


class Member(Protocol):
    """What answers a request: one model, or a chain of them."""

    name: str
    model_version: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pipeline: Processing
    mixes_rows: bool

    def run_now(self, inputs: Arrays) -> Ran | None:
        """As ``engine.Lane``."""

    def submit(self, inputs: Arrays) -> asyncio.Future[Ran]:
        """As ``engine.Lane``."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A package in memory. ``case``: its golden inputs, with what the runner answers here.

    ``mixes_rows``: a row's outputs depend on the other rows of its batch, or nothing proves that they do not.
    """

    package_id: str
    runner: runners.Runner
    pipeline: Pipeline
    case: Case
    cost: Cost
    mixes_rows: bool


class Model:
    """One package behind a lane of the engine."""

    def __init__(
        self, document: Mapping[str, Any], loaded: Loaded, engine: Engine, batching: Batching
    ) -> None:
        self.name: str = document["name"]
        self.model_version: str = document["model_version"]
        self.format: str = document["format"]
        self.loaded = loaded
        self.inputs = loaded.runner.inputs
        self.outputs = loaded.runner.outputs
        self.pipeline: Processing = loaded.pipeline
        self.mixes_rows = loaded.mixes_rows
        most = most_rows(loaded.runner)
        if most is not None:
            batching = replace(batching, max_rows=min(most, batching.max_rows))
        lane = Lane(engine, loaded.runner, Batching() if loaded.mixes_rows else batching, loaded.cost)
        self.runs = lane.runs
        self.run_now = lane.run_now
        self.submit = lane.submit


def load(package_id: str, folder: Path, threads: int, *, gpu: bool = False) -> Loaded:
    """Load a verified package and replay its golden inputs, which warms it up too.

    Args:
        threads: cores that one run may use.
        gpu: run it there, where this machine has one that its runtime can use.

    Raises:
        LoadFailed: proven of the package: its artefact or its metadata cannot be served by anybody like us.
        LimitExceeded, OSError, ImportError: this machine's own trouble, which may pass.
    """
    try:
        return _load(package_id, folder, threads, gpu)
    except (LoadFailed, OSError, ImportError):
        raise
    except Exception as exc:  # a runtime refuses a model with exceptions of its own
        if limit := as_limit(exc):
            raise limit from exc
        raise LoadFailed(f"The package cannot be served: {exc}") from exc


def _load(package_id: str, folder: Path, threads: int, gpu: bool) -> Loaded:
    case = golden.read(folder / package.GOLDEN)
    runner = _runner(folder, case, threads, gpu)
    differing = golden.replay(folder, runner)
    if differing:
        raise LoadFailed(f"The golden inputs give other answers on this machine: {', '.join(differing)}.")
    metadata = json.loads((folder / package.METADATA).read_bytes())
    pipeline = Pipeline(metadata, folder)
    try:
        pipeline.predictions({spec.name: case.expected[spec.name] for spec in runner.outputs})
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as exc:
        raise LoadFailed(f"The declared post-processing does not fit the model's outputs: {exc}") from exc
    # Measured here too: packages of earlier builds have no such measurement, and the machine is another one.
    independent = rows_are_independent(runner, case, golden.precision(folder))
    return Loaded(package_id, runner, pipeline, case, _cost(runner, case), mixes_rows=not independent)


def _runner(folder: Path, case: Case, threads: int, gpu: bool) -> runners.Runner:
    """On one core where the model takes less than a thread's turn: to wake another takes longer."""
    if threads > 1 and package.read_manifest(folder).size_bytes <= _MAYBE_TINY_BYTES:
        runner = runners.load(folder, 1, gpu=gpu)
        runner.predict(case.inputs)
        if _cost(runner, case).seconds < INLINE_S:
            return runner
    return runners.load(folder, threads, gpu=gpu, spin=threads > 1)


def _cost(runner: runners.Runner, case: Case) -> Cost:
    """The quickest of a few runs: the others were disturbed."""
    taken = []
    for _ in range(_WARM_RUNS):
        began = time.perf_counter()
        runner.predict(case.inputs)
        taken.append(time.perf_counter() - began)
    return Cost(min(taken), sum(array.size for array in case.inputs.values()))
