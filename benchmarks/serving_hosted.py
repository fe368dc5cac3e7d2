"""What a model host costs: the same deployments by a server that runs them itself, and by one that does not.

Two inference servers over the same databases, asked in turns. With ENABLE_AUTH no namespace is trusted
until the settings say so, so every model of the second one runs in a model host.
"""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from common import median_ratio, resident, table
from serving_load import Load, Rate
from serving_peers import is_right
from serving_service import Service, one_more, until

FRONT, HOSTED, AGAIN = "in the front", "in a model host", "in the front, again"
SERVERS: Mapping[str, Mapping[str, str]] = {
    FRONT: {},
    HOSTED: {"ENABLE_AUTH": "true", "API_KEY": "a-key-of-the-benchmark"},
    AGAIN: {},
}
PROMISED = {"mlp": "≤ 0.15 ms, ≥ 0.75", "resnet": "≥ 0.95"}
MODELS = tuple(PROMISED)
FEW, MANY = 1, 16
MIB = 2**20
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Figures:
    """By (server, model, connections), and the memory of the model host's process (PSS) in bytes."""

    rates: Mapping[Key, Sequence[Rate]]
    host_bytes: int


def measure(service: Service, folder: Path, *, rounds: int, seconds: int) -> Figures:
    """Every cell once a round; a round begins with another server each time."""
    exported = {name: service.exported(name) for name in MODELS}
    deployed = {name: service.deployed(name) for name in MODELS}
    rates: dict[Key, list[Rate]] = {}
    with ExitStack() as stack:
        loads: dict[tuple[str, str], Load] = {}
        for server, environment in SERVERS.items():
            log = folder / f"{server}.log"
            process, url, _ = stack.enter_context(one_more(service, log, **environment))
            if server == HOSTED:
                hosting = process
            for name, model in exported.items():
                question = replace(deployed[name], inference_url=url).questions(model)["binary"]
                until(partial(is_right, question, model), f"{name} {server}")
                loads[server, name] = Load(question, folder / "load" / server / name)
                loads[server, name].measure(FEW, 1)
        order = list(SERVERS)
        for n in range(rounds):
            for name in MODELS:
                for connections in (FEW, MANY):
                    for server in order:
                        rate = loads[server, name].measure(connections, seconds)
                        rates.setdefault((server, name, connections), []).append(rate)
                        print(
                            f"  round {n + 1}: {name} {server}, {connections} connections: "
                            f"{rate.per_second:,.0f}/s, p50 {rate.p50_ms:.3f} ms",
                            flush=True,
                        )
            order.append(order.pop(0))
        return Figures(rates, sum(resident(each)[1] for each in model_hosts(hosting)))


def model_hosts(server: psutil.Process) -> list[psutil.Process]:
    family = server.children(recursive=True)
    return [each for each in family if "model_hosts.process" in " ".join(each.cmdline())]


def report(figures: Figures) -> str:
    rows = []
    for name in MODELS:
        for connections in (FEW, MANY):
            front, hosted, again = (figures.rates[server, name, connections] for server in SERVERS)
            rows.append(
                [
                    name,
                    connections,
                    *(f"{statistics.median(rate.p50_ms for rate in each):.3f}" for each in (front, hosted)),
                    f"{_more_ms(hosted, front):+.3f}",
                    f"{_more_ms(again, front):+.3f}",
                    f"{_ratio(hosted, front):.2f}",
                    f"{_ratio(again, front):.2f}",
                    PROMISED[name],
                ]
            )
    header = ["model", "connections", "front, p50 ms", "host, p50 ms", "host - front", "front - front"]
    header += ["rate, host / front", "rate, front / front", "promised"]
    return f"""## Model hosts

The same deployments, binary, by a server that runs them itself and by one whose models run in a model host,
in turns; and by a second server of the first kind, which says how far equal servers differ on this machine.
Medians of the rounds' own differences and ratios. The model host with both models takes
{figures.host_bytes / MIB:.0f} MiB.

{table(header, rows)}"""


def _more_ms(ones: Sequence[Rate], others: Sequence[Rate]) -> float:
    return statistics.median(one.p50_ms - other.p50_ms for one, other in zip(ones, others, strict=True))


def _ratio(ones: Sequence[Rate], others: Sequence[Rate]) -> float:
    return median_ratio([rate.per_second for rate in ones], [rate.per_second for rate in others])
