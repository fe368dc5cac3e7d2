"""One export of a deployment, loaded and verified again on this machine."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from exporters import package
from exporters.processing.pipeline import Pipeline
from exporters.proof import golden
from model_service.serving import protocols
from model_service.serving.common.warm_up import Cost, LoadFailed, loading
from model_service.serving.engine.engine import Batching, Engine, Lane, Ran

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from exporters.base import Arrays, TensorSpec
    from exporters.runners import Runner
    from model_service.serving.common.warm_up import WarmedUp
    from model_service.serving.engine.kills import Kills
    from model_service.serving.model_hosts.runs import HostedModel


class Processing(protocols.Processing, Protocol):
    """A model's processing: ``exporters.processing.pipeline.Pipeline``, or that of a chain's two ends."""

    def predictions(
        self, outputs: Mapping[str, Any], geometries: Sequence[Any] | None = None, **overrides: Any
    ) -> list[Any] | None: ...


class Member(Protocol):
    """Runs the inference for a request: one model, or a chain of models."""

    name: str
    model_version: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pipeline: Processing
    mixes_rows: bool

    def run_now(self, inputs: Arrays) -> Ran | None:
        """See ``engine.Lane``."""

    def submit(self, inputs: Arrays, caller: str = "") -> asyncio.Future[Ran]:
        """See ``engine.Lane``."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A package in memory.

    ``mixes_rows``: a row's outputs depend on the other rows of its batch, or their independence is not
    proven. ``most_rows``: the largest batch that it accepts; None: any.
    """

    package_id: str
    runner: Runner | HostedModel
    pipeline: Pipeline
    cost: Cost
    mixes_rows: bool
    most_rows: int | None = None


class Model:
    """One package with its lane of the engine."""

    def __init__(
        self,
        document: Mapping[str, Any],
        loaded: Loaded,
        engine: Engine,
        batching: Batching,
        *,
        timeout_s: float = math.inf,
        kills: Kills | None = None,
    ) -> None:
        self.name: str = document["name"]
        self.model_version: str = document["model_version"]
        self.format: str = document["format"]
        self.loaded = loaded
        self.inputs = loaded.runner.inputs
        self.outputs = loaded.runner.outputs
        self.pipeline: Processing = loaded.pipeline
        self.mixes_rows = loaded.mixes_rows
        if loaded.most_rows is not None:
            batching = replace(batching, max_rows=min(loaded.most_rows, batching.max_rows))
        lane = Lane(
            engine,
            loaded.runner,
            Batching() if loaded.mixes_rows else batching,
            loaded.cost,
            timeout_s=timeout_s,
            kills=kills,
        )
        self.runs = lane.runs
        self.run_now = lane.run_now
        self.submit = lane.submit


def load(package_id: str, folder: Path, runs: Callable[[Path], WarmedUp]) -> Loaded:
    """Load a verified package: its warmed-up model, and its declared processing.

    Args:
        runs: loads the model: ``warm_up.warmed_up`` in this process, or a model host's function.

    Raises:
        LoadFailed: the package itself is at fault: no server of this version can serve it.
        LimitExceeded, OSError, ImportError: a problem of this machine, which may be temporary.
    """
    warm = runs(folder)
    with loading():
        case = golden.read(folder / package.GOLDEN)
        metadata = json.loads((folder / package.METADATA).read_bytes())
        pipeline = Pipeline(metadata, folder)
        try:
            pipeline.predictions({spec.name: case.expected[spec.name] for spec in warm.runner.outputs})
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as exc:
            raise LoadFailed(f"The declared post-processing does not fit the model's outputs: {exc}") from exc
    return Loaded(package_id, warm.runner, pipeline, warm.cost, warm.mixes_rows, warm.most_rows)
