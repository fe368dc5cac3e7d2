"""Try the conversions of a source, and compare each artefact with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import conversions, runners
from ..base import FAILED, Artefact, Case, Progress, Source
from ..errors import ConversionFailed, as_limit
from ..proof import refusal, verify
from ..steps import Steps

Opener = Callable[[str, Path], tuple[runners.Runner | None, str]]
"""``open_artefact``, or another way to open an artefact."""


@dataclass(frozen=True)
class Compared:
    """An artefact that was compared with its source. ``runner`` None: it does not run here."""

    folder: Path
    artefact: Artefact
    runner: runners.Runner | None
    fidelity: dict[str, Any]
    why_not: str = ""  # why there is no runner

    @property
    def path(self) -> Path:
        """The file to open."""
        return self.folder / self.artefact.files[0]

    @property
    def size_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.artefact.files)

    @property
    def failed(self) -> bool:
        return bool(self.fidelity["verdict"] == FAILED)


def best(
    format_name: str,
    possible: list[conversions.Conversion],
    source: Source,
    all_cases: list[Case],
    scratch: Path,
    steps: Steps,
    progress: Progress,
) -> Compared:
    """Return the first result that agrees with the source; otherwise the first result."""
    tried: list[dict[str, Any]] = []
    first: Compared | None = None
    failure: ConversionFailed | None = None
    for number, conversion in enumerate(possible):
        percent = 35.0 + 40.0 * number / len(possible)
        progress("convert", percent, f"Converting with {conversion.name}")
        folder = scratch / conversion.name
        folder.mkdir()
        try:
            with steps.timed("convert"):
                artefact = conversion.convert(all_cases[0], folder)
                runner, why_not = open_artefact(format_name, folder / artefact.files[0])
        except ConversionFailed as exc:
            failure = failure or exc
            tried.append({"converter": conversion.name, "result": "conversion_failed", "reason": exc.message})
            continue
        progress("verify", percent + 15.0, "Comparing the artefact with its source")
        with steps.timed("verify"):
            if runner is None:
                fidelity = fidelity_of_stand_in(source, all_cases, artefact, folder, why_not)
            else:
                fidelity = fidelity_of(source, all_cases, artefact, runner)
        tried.append({"converter": conversion.name, "result": fidelity["verdict"]})
        fidelity |= {"converters_tried": tried, "tools": verify.tools()}
        if source.coverage:
            fidelity["coverage"] = dict(source.coverage)
        attempt = Compared(folder, artefact, runner, fidelity, why_not)
        if not attempt.failed:
            return attempt
        first = first or attempt
    if first is not None:
        with steps.timed("verify"):
            return _with_failure(first, format_name, source, all_cases)
    if failure is None:
        raise ConversionFailed("No converter supports this model.")
    failure.details["converters_tried"] = tried
    raise failure


def fidelity_of(
    source: Source, all_cases: list[Case], artefact: Artefact, runner: runners.Runner
) -> dict[str, Any]:
    """Return the fidelity report of an artefact that runs here."""
    return verify.compare(
        all_cases,
        runner.predict,
        artefact.precision,
        source.labels,
        source.derived,
        source.run_by,
        source.units,
    )


def open_artefact(format_name: str, path: Path) -> tuple[runners.Runner | None, str]:
    """Return the runner, or the reason why there is none here."""
    try:
        return runners.open_artefact(format_name, path), ""
    except runners.NotExecutable as exc:
        return None, str(exc)
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"The conversion produced a file that its own runtime cannot load: {str(exc).strip()[:300]}"
        ) from exc


def _with_failure(attempt: Compared, format_name: str, source: Source, all_cases: list[Case]) -> Compared:
    """Add ``failure`` to fidelity.json: the smallest input on which the artefact is wrong."""
    runner, artefact = attempt.runner, attempt.artefact
    if runner is None:  # its stand-in was compared
        runner, _ = open_artefact(artefact.stand_in or format_name, attempt.path)
    if runner is not None:
        attempt.fidelity["failure"] = refusal.describe(
            source, all_cases, format_name, artefact, runner, attempt.fidelity
        )
    return attempt


def fidelity_of_stand_in(
    source: Source, all_cases: list[Case], artefact: Artefact, folder: Path, why_not: str
) -> dict[str, Any]:
    """Return the fidelity report of an artefact that does not run here.

    If it has a stand-in, the stand-in is compared, and a wrong one fails the export.
    """
    fidelity = verify.not_executed(why_not)
    if artefact.stand_in is None:
        return fidelity
    runner, why_not_even = open_artefact(artefact.stand_in, folder / artefact.files[0])
    if runner is None:
        raise ConversionFailed(f"The {artefact.stand_in} inside cannot run here either: {why_not_even}")
    proof = fidelity_of(source, all_cases, artefact, runner)
    if proof["verdict"] == FAILED:
        return proof
    return fidelity | {"stand_in": {"format": artefact.stand_in, **proof}}
