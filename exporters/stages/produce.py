"""Convert a prepared source, and optimise the artefact that agrees with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base import Case, Progress
from ..optimize import config, pipeline
from ..proof import golden
from ..steps import Steps
from . import compare
from .compare import Compared
from .prepare import Prepared


@dataclass(frozen=True)
class Produced:
    """The artefact to deliver. ``optimization``: what was changed, in the source and in the artefact."""

    prepared: Prepared
    attempt: Compared
    optimization: dict[str, Any]

    def golden(self) -> Case:
        """Return the golden case. The outputs of an artefact that was judged on a dataset are its own."""
        artefact, runner = self.attempt.artefact, self.attempt.runner
        case = golden.choose(self.prepared.cases, self.prepared.source.labels, artefact.precision)
        if runner is None or "compared" not in self.attempt.fidelity:
            return case
        return replace(case, expected=runner.predict(case.inputs))


def produce(prepared: Prepared, scratch: Path, steps: Steps, progress: Progress) -> Produced:
    """Return the artefact of the prepared request."""
    attempt = convert(prepared, scratch, steps, progress)
    if attempt.failed or not config.chosen(prepared.request.optimization or {}):
        return Produced(prepared, attempt, prepared.changes)
    progress("optimize", 75.0, "Optimising the artefact")
    return optimise(prepared, attempt, scratch / "optimized", steps)


def convert(prepared: Prepared, scratch: Path, steps: Steps, progress: Progress) -> Compared:
    """Return the artefact before the techniques that change it, compared with its source."""
    attempt = compare.best(
        prepared.request.format,
        prepared.possible,
        prepared.source,
        prepared.cases,
        scratch,
        steps,
        progress,
    )
    attempt.fidelity["rejected_by_source"] = dict(prepared.rejected)
    return attempt


def optimise(
    prepared: Prepared,
    attempt: Compared,
    folder: Path,
    steps: Steps,
    open_runner: compare.Opener = compare.open_artefact,
) -> Produced:
    """Return the artefact after the technique of the request that changes it. ``folder``: for its files."""
    with steps.timed("optimize"):
        changed, report = pipeline.change_artefact(
            prepared.request, prepared.source, prepared.cases, attempt, prepared.judge, folder, open_runner
        )
    return Produced(prepared, changed, {**prepared.changes, **report})
