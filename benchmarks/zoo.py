"""Every architecture of the zoo to every format: converted, verified, how far off, how long, how large.

``python benchmarks/zoo.py``; ``--only NAME`` and ``--formats A,B`` look at a part and write no results. Each
model has a process of its own, which a crash of a converter's native code ends; the next format gets another.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

from common import MB, ROOT, setting, table, write_results
from zoo_models import Model, models

from exporters import registry, sources
from exporters.base import NOT_EXECUTED, VERIFIED
from exporters.convert import run
from exporters.errors import ExportError
from exporters.request import ExportRequest

LIMIT_S = 240  # for one cell
GOAL = 0.95
# What is made on the target: asked for here, it is the package that builds it there.
OPTIONS: dict[str, dict[str, Any]] = {"tensorrt": {"build_on_target": True}}


@dataclass(frozen=True)
class Cell:
    model: str
    format: str
    outcome: str  # a verdict, or the code of an error
    cause: str | None = None
    worst: float | None = None  # the largest absolute difference
    seconds: float = 0.0
    size_bytes: int = 0
    converter: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", help="names of models, by commas")
    parser.add_argument("--formats", help="names of formats, by commas")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = [spec.name for spec in registry.specifications()]
    formats = given.formats.split(",") if given.formats else names
    if given.child:
        for line in _export(_find(given.child), formats):
            print(json.dumps(line), flush=True)
        return
    wanted = set(given.only.split(",")) if given.only else None
    chosen = [model for model in models() if wanted is None or model.name in wanted]
    with ThreadPoolExecutor(given.processes) as pool:
        cells = [cell for found in pool.map(partial(_ask, formats=formats), chosen) for cell in found]
    text = report(chosen, formats, cells)
    if wanted is None and not given.formats:
        write_results("zoo", text)
    else:
        print(text)


def _find(name: str) -> Model:
    return next(model for model in models() if model.name == name)


def _ask(model: Model, formats: Sequence[str]) -> list[Cell]:
    """The model's cells; what a dead or a slow child left undone goes to the next one."""
    cells: list[Cell] = []
    left = list(formats)
    while left:
        done, died = _child(model, left)
        cells += done
        left = left[len(done) :]
        if left and died is not None:
            cells.append(Cell(model.name, left.pop(0), "crashed", died))
    for cell in cells:
        print(f"  {cell.model} → {cell.format}: {cell.outcome} {cell.cause or ''}"[:160], flush=True)
    return cells


def _child(model: Model, formats: Sequence[str]) -> tuple[list[Cell], str | None]:
    argv = [sys.executable, "-W", "ignore", __file__, "--child", model.name, "--formats", ",".join(formats)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, text=True)
        assert process.stdout is not None
        cells: list[Cell] = []
        slow = Timer(LIMIT_S, process.kill)
        slow.start()
        for line in process.stdout:
            if line.startswith('{"cell"'):
                cells.append(Cell(**json.loads(line)["cell"]))
                slow.cancel()
                slow = Timer(LIMIT_S, process.kill)
                slow.start()
        slow.cancel()
        status = process.wait()
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    if status == 0:
        return cells, None
    return cells, f"exit status {status}: {' '.join(last)[:200]}"


def _export(model: Model, formats: Sequence[str]) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "source"
        folder.mkdir()
        path = model.save(folder)
        kind = sources.detect(path)
        for name in formats:
            if kind in registry.kinds(name):
                cell = _cell(model, name, path, Path(scratch) / name)
            else:
                cell = Cell(model.name, name, "-")
            yield {"cell": vars(cell)}


def _cell(model: Model, name: str, path: Path, out: Path) -> Cell:
    options = {**model.options, **OPTIONS.get(name, {})}
    started = time.perf_counter()
    try:
        result = run(ExportRequest(path, out, name, options))
    except ExportError as exc:
        return Cell(model.name, name, exc.code, exc.message, seconds=time.perf_counter() - started)
    worst = max((output["max_abs"] or 0.0 for output in result.fidelity["outputs"].values()), default=None)
    return Cell(
        model.name,
        name,
        result.verdict,
        worst=worst,
        seconds=time.perf_counter() - started,
        size_bytes=result.artefact_size_bytes,
        converter=result.converter,
    )


def report(chosen: Sequence[Model], formats: Sequence[str], cells: Sequence[Cell]) -> str:
    by = {(cell.model, cell.format): cell for cell in cells}
    shown = {name: [by[model.name, name] for model in chosen] for name in formats}
    rows = [
        [model.name, model.group, *(_shown(by[model.name, name]) for name in formats)] for model in chosen
    ]
    asked = [cell for cell in cells if cell.outcome != "-"]
    run_here = [cell for cell in asked if cell.outcome != NOT_EXECUTED]
    verified = sum(cell.outcome == VERIFIED for cell in run_here)
    outcomes = Counter(cell.outcome for cell in asked)
    summary = [
        [
            name,
            sum(cell.outcome != "-" for cell in column),
            sum(cell.outcome == VERIFIED for cell in column),
            sum(cell.outcome == NOT_EXECUTED for cell in column),
            sum(cell.outcome not in ("-", VERIFIED, NOT_EXECUTED) for cell in column),
        ]
        for name, column in shown.items()
    ]
    failures = [
        [cell.model, cell.format, cell.outcome, (cell.cause or "").replace("|", "/").replace("\n", " ")[:300]]
        for cell in asked
        if cell.outcome not in (VERIFIED, NOT_EXECUTED)
    ]
    return (
        f"# The zoo\n\n`python benchmarks/zoo.py`: {len(chosen)} models with random weights, "
        f"{len(formats)} formats. {setting()}\n\n"
        f"{verified} of {len(run_here)} cells that run here are verified "
        f"({verified / max(1, len(run_here)):.1%}; goal {GOAL:.0%}); "
        f"{outcomes[NOT_EXECUTED]} more are converted for a runtime that is not on this platform, and "
        f"called that. {outcomes['verification_failed']} artefacts were wrong, and refused.\n\n"
        f"{table(['format', 'asked', 'verified', 'not executed', 'failed'], summary)}\n"
        "A cell is the largest difference from the source, the seconds of the export, and the megabytes "
        f"of the artefact; ◌ is converted, not executed; · is none that the format can express.\n\n"
        f"{table(['model', 'of', *formats], rows)}\n"
        f"## What failed, and why\n\n{table(['model', 'format', 'outcome', 'cause'], failures)}"
    )


def _shown(cell: Cell) -> str:
    if cell.outcome == "-":
        return "·"
    figures = f"{cell.seconds:.1f} s, {cell.size_bytes / MB:.2g} MB"
    if cell.outcome == VERIFIED:
        return f"{cell.worst:.0e}, {figures}"
    return f"◌ {figures}" if cell.outcome == NOT_EXECUTED else f"**{cell.outcome}**"


if __name__ == "__main__":
    main()
