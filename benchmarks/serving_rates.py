"""Requests a second and latencies, of ours, of the peers and of the bare session, in turns."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import serving_bare as bare
from common import median_ratio, table
from serving_load import Load, Rate
from serving_peers import TRITON_MANY, TRITON_ONE, VERSIONS, started
from serving_service import Service

OURS = "ours"
MODELS = ("mlp", "resnet")
FEW, MANY = 1, 16  # connections
BEST_OF = ("MLServer", "BentoML", "mlflow models serve")
OVERHEAD_MS = 0.5
OF_BARE = 0.9
WARM_S = 1


@dataclass(frozen=True)
class Cell:
    """One thing that is measured; ``connections`` is 0 for the bare session, whose ``body`` is its way."""

    server: str
    model: str
    body: str
    connections: int


Figures = Mapping[Cell, Sequence[Rate]]
BARE = "bare onnxruntime"


def measure(service: Service, folder: Path, *, rounds: int, seconds: int, peers: Sequence[str]) -> Figures:
    """Every cell once a round, after each server has answered right and was warmed up."""
    exported = {name: service.exported(name) for name in MODELS}
    with ExitStack() as stack:
        questions = {
            OURS: {name: service.deployed(name).questions(model) for name, model in exported.items()}
        }
        for name in peers:
            print(f"  starting {name}", flush=True)
            running = stack.enter_context(started(name, exported, folder))
            questions[name] = running.questions
        measurements: dict[Cell, Callable[[], Rate]] = {}
        for server, by_model in questions.items():
            for model, by_body in by_model.items():
                for body, question in by_body.items():
                    load = Load(question, folder / "load" / server / model / body)
                    load.measure(FEW, WARM_S)
                    for connections in (FEW, MANY):
                        cell = Cell(server, model, body, connections)
                        measurements[cell] = partial(load.measure, connections, seconds)
        for name, one in exported.items():
            for way in bare.WAYS:
                measurements[Cell(BARE, name, str(way), 0)] = partial(bare.measure, one, way, seconds)
        return _in_turns(rounds, measurements)


def _in_turns(rounds: int, measurements: Mapping[Cell, Callable[[], Rate]]) -> Figures:
    """Round by round, and within a round model by model, so that who is compared is measured together."""
    figures: dict[Cell, list[Rate]] = {cell: [] for cell in measurements}
    order = sorted(measurements, key=lambda cell: (cell.model, cell.connections, cell.body != "binary"))
    for n in range(rounds):
        for cell in order:
            rate = measurements[cell]()
            figures[cell].append(rate)
            where = f"{cell.connections} connections" if cell.connections else ""
            print(
                f"  round {n + 1}: {cell.model}, {cell.server}, {cell.body} {where}: "
                f"{rate.per_second:,.0f}/s, p50 {rate.p50_ms:.3f} ms",
                flush=True,
            )
    return figures


def report(figures: Figures) -> str:
    servers = list(dict.fromkeys(cell.server for cell in figures if cell.server != BARE))
    text = f"""## Rates and latencies

Requests a second (p50 / p99 in ms), medians of the rounds. The MLP is float32[1, 64]; the convnet is
ResNet-18's blocks at width 40, float32[1, 3, 224, 224]. Load: `wrk`, one thread, on the same machine; every
server's answer was compared with the model's first. One process each but for Triton's workers. MLServer and
MLflow have no binary body. Peers: {", ".join(VERSIONS)}.

"""
    for model, title in zip(MODELS, ("The MLP", "The convnet"), strict=True):
        rows = []
        for server in servers:
            for body in ("JSON", "binary"):
                cells = [Cell(server, model, body, connections) for connections in (FEW, MANY)]
                if cells[0] in figures:
                    rows.append([server, body, *(_shown(figures[cell]) for cell in cells)])
        text += (
            f"### {title}\n\n{table(['server', 'body', f'{FEW} connection', f'{MANY} connections'], rows)}\n"
        )
        ways = [
            (cell.body, _shown(rates))
            for cell, rates in figures.items()
            if cell.server == BARE and cell.model == model
        ]
        text += table(["the bare session", "rows/s (a call's p50 / p99 in ms)"], ways) + "\n"
    return text + _promises(figures)


def _promises(figures: Figures) -> str:
    def ours(model: str, body: str) -> Cell:
        return Cell(OURS, model, body, MANY)

    def best(model: str, bodies: Sequence[str]) -> Cell | None:
        found = [
            cell
            for cell in figures
            if cell.server in BEST_OF
            and (cell.model, cell.connections) == (model, MANY)
            and cell.body in bodies
        ]
        return max(found, key=lambda cell: _rate(figures[cell]), default=None)

    bare_best = max(
        (cell for cell in figures if cell.server == BARE and cell.model == "resnet"),
        key=lambda cell: _rate(figures[cell]),
    )
    compared: list[tuple[str, Cell, Cell | None, str]] = [
        ("convnet, binary", ours("resnet", "binary"), bare_best, f"≥ {OF_BARE}"),
        ("convnet, binary", ours("resnet", "binary"), best("resnet", ["JSON", "binary"]), "≥ 2.5"),
        *(
            ("convnet, binary", ours("resnet", "binary"), Cell(name, "resnet", "binary", MANY), "> 1")
            for name in (TRITON_ONE, TRITON_MANY)
        ),
    ]
    for body in ("JSON", "binary"):
        title = f"MLP, {body}"
        compared.append((title, ours("mlp", body), best("mlp", [body]), "≥ 3"))
        for name in (TRITON_ONE, TRITON_MANY):
            compared.append((title, ours("mlp", body), Cell(name, "mlp", body, MANY), "≥ 2.5"))
    rows = [
        (
            title,
            f"{theirs.server}, {theirs.body}",
            f"{median_ratio(_rates(figures[mine]), _rates(figures[theirs])):.2f}",
            promised,
        )
        for title, mine, theirs, promised in compared
        if theirs is not None and theirs in figures
    ]
    text = f"""### Promised

Ratios at {MANY} connections, ours to theirs; the medians of the rounds' own.

{table(["ours", "beside", "ratio", "promised"], rows)}
"""
    return text + _overhead(figures)


def _overhead(figures: Figures) -> str:
    """p50 of ours at one connection, binary, less that of one caller of the bare session, round by round."""
    rows = []
    for model, title in zip(MODELS, ("MLP", "convnet"), strict=True):
        ours = figures[Cell(OURS, model, "binary", FEW)]
        for way in dict.fromkeys([bare.ALONE, bare.ALONE_ON_ALL_CORES]):
            theirs = figures[Cell(BARE, model, str(way), 0)]
            over = statistics.median(a.p50_ms - b.p50_ms for a, b in zip(ours, theirs, strict=True))
            p50s = [f"{statistics.median(rate.p50_ms for rate in rates):.3f}" for rates in (ours, theirs)]
            rows.append((title, str(way), *p50s, f"{over:.3f}", f"≤ {OVERHEAD_MS}"))
    header = ["model", "bare session", "ours, p50 ms", "bare, p50 ms", "overhead, ms", "promised"]
    return f"""Overhead over the bare session at one connection, binary.

{table(header, rows)}"""


def _rates(rates: Sequence[Rate]) -> list[float]:
    return [rate.per_second for rate in rates]


def _rate(rates: Sequence[Rate]) -> float:
    return statistics.median(_rates(rates))


def _shown(rates: Sequence[Rate]) -> str:
    p50, p99 = (statistics.median(getattr(rate, name) for rate in rates) for name in ("p50_ms", "p99_ms"))
    return f"{_rate(rates):,.0f} ({p50:.3g} / {p99:.3g})"
