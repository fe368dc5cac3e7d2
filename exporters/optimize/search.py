"""Run the recipes of the ladder on one source, measure each, and return the one that reaches the goal."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import conversions, registry, runners
from ..base import Progress, Source
from ..errors import ConversionFailed, ExportError, GoalNotReached, MissingDependency, as_limit
from ..proof import measure, memory
from ..request import ExportRequest
from ..stages.compare import Compared, open_artefact
from ..stages.prepare import Prepared, options_of, prepare
from ..stages.produce import Produced, convert, optimise
from ..steps import Steps, part
from . import auto, choice, config
from .base import Rung, SourceTechnique, Technique
from .choice import Measured, Row

# Percent of the export: the float artefact is ready, and the recipes were tried.
_FLOAT, _TRIED = 35.0, 80.0


def search(request: ExportRequest, scratch: Path, steps: Steps, progress: Progress) -> Produced:
    """Return the artefact of the recipe that reaches the goal, with the table that decided.

    A float artefact that disagrees with its source is returned as it is.

    Raises:
        GoalNotReached: no recipe reaches the goal; the details have the table.
        ExportError: the float artefact could not be made; as ``convert.run``.
    """
    reported = part(progress, 0.0, _FLOAT)
    prepared = prepare(request, scratch, steps, reported)
    attempt = convert(prepared, scratch, steps, reported)
    if attempt.failed:
        return Produced(prepared, attempt, {})
    if attempt.runner is None:
        raise MissingDependency(f"No recipe can be measured here: {attempt.why_not}")
    return _Search(request, prepared, attempt, attempt.runner, scratch, steps, progress).run()


@dataclass
class _Search:
    """``runner`` and ``attempt``: of the float artefact."""

    request: ExportRequest
    prepared: Prepared
    attempt: Compared
    runner: runners.Runner
    scratch: Path
    steps: Steps
    progress: Progress

    def run(self) -> Produced:
        goal, ladder = (self.request.optimization or {})["goal"], auto.ladder(self.request.format)
        began = time.perf_counter()
        baseline = self._measured(Produced(self.prepared, self.attempt, {}), self._peak(self.attempt.path))
        rows = [Row(choice.FLOAT, {}, baseline, seconds=time.perf_counter() - began)]
        best: tuple[Path, Produced] | None = None
        for number, (technique, rung) in enumerate(ladder):
            low, high = (_FLOAT + (_TRIED - _FLOAT) * (number + more) / len(ladder) for more in (0, 1))
            self.progress("recipe", low, f"Recipe {number + 1} of {len(ladder)}: {rung.name}")
            folder = self.scratch / f"recipe-{number}"
            row, produced = self._row(technique, rung, rows, folder, part(self.progress, low, high))
            rows.append(row)
            _, chosen = choice.decide(rows, goal)
            loser: Path | None = folder
            if produced is not None and chosen is not None and chosen.recipe == row.recipe:
                loser = best[0] if best else None
                best = folder, produced
            if loser is not None:
                shutil.rmtree(loser, ignore_errors=True)
        rows, chosen = choice.decide(rows, goal)
        report = choice.report(rows, goal, chosen)
        if best is None or chosen is None:
            raise GoalNotReached(choice.not_reached(rows, goal), optimization=report)
        _, produced = best
        return replace(produced, optimization={**produced.optimization, **report})

    def _row(
        self, technique: Technique, rung: Rung, rows: list[Row], folder: Path, progress: Progress
    ) -> tuple[Row, Produced | None]:
        """Return the row of a recipe, and its artefact if it was measured."""
        given = self.request.optimization or {}
        row = Row(rung.name, auto.configuration(technique, rung, given))
        began = time.perf_counter()
        reason = choice.why_skipped(rung, rows)
        if reason is not None:
            return replace(row, outcome=choice.NOT_TRIED, reason=reason), None
        try:
            recipe = config.of_recipe(self.request.format, technique, rung, given, self.request.options)
        except ExportError as exc:
            return replace(row, outcome=choice.NOT_TRIED, reason=exc.message), None
        try:
            folder.mkdir()
            produced, peak = self._produced(technique, {**recipe, "goal": given["goal"]}, folder, progress)
            measured = self._measured(produced, peak)
        except Exception as exc:
            reason = _why_failed(exc)
            failed = replace(row, outcome=choice.FAILED, reason=reason, seconds=time.perf_counter() - began)
            return failed, None
        return replace(row, measured=measured, seconds=time.perf_counter() - began), produced

    def _produced(
        self, technique: Technique, recipe: dict[str, Any], folder: Path, progress: Progress
    ) -> tuple[Produced, int | None]:
        """Return the artefact of a recipe, and its peak memory in bytes.

        An artefact that is changed after its conversion runs in a process of its own first: a crash of its
        runtime ends only that process.
        """
        options = config.merged(self.request.format, recipe, self.request.options)
        attempt = self.attempt
        if isinstance(technique, SourceTechnique):
            request = replace(self.request, optimization=recipe, options=options)
            prepared = prepare(request, folder, self.steps, progress, self.prepared.loaded)
            attempt = convert(prepared, folder, self.steps, progress)
        else:
            request = replace(self.prepared.request, optimization=recipe, options=options)
            prepared = replace(self.prepared, request=request)
            if technique.options(request.format):
                prepared = replace(prepared, possible=_conversions(request, prepared.source))
                attempt = convert(prepared, folder, self.steps, progress)
        if attempt.failed:
            raise ConversionFailed(attempt.fidelity["failure"]["message"])
        peaks: list[int | None] = []

        def open_safely(format_name: str, path: Path) -> tuple[runners.Runner | None, str]:
            peaks.append(self._peak(path))
            if peaks[-1] is None:
                raise ConversionFailed("The artefact cannot be loaded and run in a process of its own.")
            return open_artefact(format_name, path)

        produced = optimise(prepared, attempt, folder / "optimized", self.steps, open_safely)
        return produced, peaks[0] if peaks else self._peak(produced.attempt.path)

    def _peak(self, path: Path) -> int | None:
        found = memory.peak(self.request.format, path, self.prepared.cases[0].inputs)
        peak: int | None = found.get("peak_memory_bytes")
        return peak

    def _measured(self, produced: Produced, peak: int | None) -> Measured:
        """Judge an artefact, and measure it in turns with the float one."""
        runner, fidelity = produced.attempt.runner, produced.attempt.fidelity
        if runner is None:
            raise ConversionFailed(f"The artefact cannot run here: {produced.attempt.why_not}")
        with self.steps.timed("optimize"):
            judgement: Mapping[str, Any] = fidelity.get("optimization") or {}
            judge = self.prepared.judge
            assert judge is not None  # ``convert.check`` demands a validation dataset
            if "drop" not in judgement or produced.prepared.judge is not judge:
                judgement = judge.judge(runner.predict)
                fidelity["optimization"] = {"judged_on": "the rows of a dataset", **judgement}
        with self.steps.timed("measure"):
            inputs = measure.smallest(self.prepared.cases)
            own, other = measure.in_turns([runner.predict, self.runner.predict], inputs)
        return Measured(judgement, produced.attempt.size_bytes, own.p50_ms, own.p99_ms, other.p50_ms, peak)


def _conversions(request: ExportRequest, source: Source) -> list[conversions.Conversion]:
    options = options_of(request)
    return conversions.of_routes(registry.routes(request.format, source.family, options), source, options)


def _why_failed(exc: Exception) -> str:
    """Return why a recipe failed. Raises LimitExceeded: the disk is full, which is not the recipe's fault."""
    limit = as_limit(exc)
    if limit is not None and limit.details.get("limit") == "disk":
        raise limit from exc
    known = limit or exc
    if isinstance(known, ExportError):
        return known.message
    traceback.print_exception(exc)
    return f"It ended with an error of its tools: {type(exc).__name__}: {str(exc).strip()[:200]}"
