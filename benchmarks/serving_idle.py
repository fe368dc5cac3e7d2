"""What a server costs that hosts the MLP and is asked nothing, and how soon it answers after its start."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from common import resident, table
from serving_peers import is_right, started
from serving_service import Service, one_more, until

OURS = "ours"
PROMISED_MIB = 120
PROMISED_READY_S = 0.8
SETTLE_S = 2.0
MIB = 2**20


@dataclass(frozen=True)
class Idle:
    """Memory of all of a server's processes, and of the largest of them."""

    ready_s: float
    rss_mib: float
    pss_mib: float
    largest_rss_mib: float


def measure(service: Service, folder: Path, *, rounds: int, peers: Sequence[str]) -> dict[str, list[Idle]]:
    """Every server started ``rounds`` times, in turns; ready is its first right answer."""
    model = service.exported("mlp")
    found: dict[str, list[Idle]] = {name: [] for name in (OURS, *peers)}
    service.deployed("mlp")
    for n in range(rounds):
        with _ours(service, folder / "ours.log") as (ready_s, process):
            found[OURS].append(_idle(ready_s, [process]))
        for name in peers:
            with started(name, {"mlp": model}, folder / str(n)) as running:
                (server,) = running.servers
                found[name].append(_idle(server.ready_s, [server.process]))
        for name, idles in found.items():
            print(
                f"  round {n + 1}: {name}: {idles[-1].largest_rss_mib:.0f} MiB, {idles[-1].ready_s:.2f} s",
                flush=True,
            )
    return found


@contextmanager
def _ours(service: Service, log: Path) -> Iterator[tuple[float, psutil.Process]]:
    model, deployed = service.exported("mlp"), service.deployed("mlp")
    with one_more(service, log) as (process, url, started):
        question = replace(deployed, inference_url=url).questions(model)["JSON"]
        until(lambda: is_right(question, model), "the second inference server")
        yield time.monotonic() - started, process


def _idle(ready_s: float, processes: Sequence[psutil.Process]) -> Idle:
    time.sleep(SETTLE_S)
    sums = [resident(process) for process in processes]
    family = [each for one in processes for each in (one, *one.children(recursive=True))]
    largest = max(each.memory_info().rss for each in family)
    rss, pss = (sum(each[index] for each in sums) / MIB for index in (0, 1))
    return Idle(ready_s, rss, pss, largest / MIB)


def report(found: dict[str, list[Idle]]) -> str:
    rows = [
        [
            name,
            *(f"{_median(idles, field):.0f} MiB" for field in ("pss_mib", "rss_mib", "largest_rss_mib")),
            f"{_median(idles, 'ready_s'):.2f} s",
        ]
        for name, idles in found.items()
    ]
    rows.append(["promised of ours", "", "", f"≤ {PROMISED_MIB} MiB", f"≤ {PROMISED_READY_S} s"])
    header = ["server", "PSS, all processes", "RSS, all processes", "RSS, the largest process", "ready in"]
    return f"""## Idle

Each hosts the MLP alone and has answered once or twice; the memory {SETTLE_S:g} s later, medians of
{len(next(iter(found.values())))} starts in turns. Ready: from the process's start to its first
right answer over HTTP. Ours is a second inference server of a running service, whose packages are on its
disk; it has a supervisor and one serving process. PSS shares what several processes have mapped, and here the
service's own others have mapped the same libraries; RSS does not.

{table(header, rows)}"""


def _median(idles: Sequence[Idle], field: str) -> float:
    return float(statistics.median(getattr(idle, field) for idle in idles))
