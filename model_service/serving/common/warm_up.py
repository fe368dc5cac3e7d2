"""Load a package's runner, verify it again on this machine, and measure it.

This runs in the front or in a model host: each loads the models that it runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import package, runners
from exporters.errors import as_limit
from exporters.proof import golden
from exporters.proof.independence import rows_are_independent
from exporters.runners.bounded import most_rows

if TYPE_CHECKING:
    from exporters.base import Case

# A model below this costs less than switching to a thread. Above it, it would block the event loop.
INLINE_S = 0.0003
_WARM_RUNS = 3
_MAYBE_TINY_BYTES = 20_000_000  # a larger package has no tiny model


class LoadFailed(Exception):
    """The package cannot be served; the message has the reason."""


@dataclass(frozen=True)
class Cost:
    """The seconds that a run with ``elements`` input elements took."""

    seconds: float
    elements: int


@dataclass(frozen=True)
class WarmedUp:
    """``runner`` is in this process or in a model host. For the rest see ``member.Loaded``."""

    runner: Any
    cost: Cost
    mixes_rows: bool
    most_rows: int | None


@contextmanager
def loading() -> Iterator[None]:
    """Convert errors inside to LoadFailed, except those of this machine.

    Raises:
        LoadFailed: the package itself is at fault.
        LimitExceeded, OSError, ImportError: a problem of this machine, which may be temporary.
    """
    try:
        yield
    except (LoadFailed, OSError, ImportError):
        raise
    except Exception as exc:  # a runtime refuses a model with its own exceptions
        if limit := as_limit(exc):
            raise limit from exc
        raise LoadFailed(f"The package cannot be served: {exc}") from exc


def warmed_up(folder: Path, threads: int, *, gpu: bool = False) -> WarmedUp:
    """Load a verified package and replay its golden inputs, which also warms it up.

    Args:
        threads: cores that one run may use.
        gpu: run it on a GPU, if this machine has one that its runtime supports.

    Raises as ``loading``.
    """
    with loading():
        case = golden.read(folder / package.GOLDEN)
        runner = _runner(folder, case, threads, gpu)
        differing = golden.replay(folder, runner)
        if differing:
            raise LoadFailed(
                f"The outputs for the golden inputs differ on this machine: {', '.join(differing)}."
            )
        # Measured again here: older packages have no such measurement, and the machine differs.
        independent = rows_are_independent(runner, case, golden.precision(folder))
        return WarmedUp(runner, _cost(runner, case), not independent, most_rows(runner))


def _runner(folder: Path, case: Case, threads: int, gpu: bool) -> runners.Runner:
    """Load the runner with one core if a run is shorter than waking another thread."""
    if threads > 1 and package.read_manifest(folder).size_bytes <= _MAYBE_TINY_BYTES:
        runner = runners.load(folder, 1, gpu=gpu)
        runner.predict(case.inputs)
        if _cost(runner, case).seconds < INLINE_S:
            return runner
    return runners.load(folder, threads, gpu=gpu, spin=threads > 1)


def _cost(runner: runners.Runner, case: Case) -> Cost:
    """Return the quickest of a few runs: the others were disturbed."""
    taken = []
    for _ in range(_WARM_RUNS):
        began = time.perf_counter()
        runner.predict(case.inputs)
        taken.append(time.perf_counter() - began)
    return Cost(min(taken), sum(array.size for array in case.inputs.values()))
