"""``kill -9`` of a serving process, under load."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import psutil
from common import table
from serving_service import Service, until
from serving_steady import CUT_OFF, Asked, steady

NAME = "killed"
PER_SECOND = 200
BEFORE_S = 2.0
AFTER_S = 6.0
PROMISED_S = 2.0


@dataclass(frozen=True)
class Crash:
    processes: int
    asked: int
    in_flight: int  # sent before the kill, and cut off by it
    others: Counter[str]
    failing_s: float  # from the kill to the last failure's end
    slowest_ms: float  # of the requests that were answered


def measure(service: Service, *, rounds: int) -> list[Crash]:
    """Once with one process, then with two."""
    found = []
    for replicas in (1, 2):
        name = f"{NAME}-{replicas}"
        service.deployed(name, model="mlp", replicas=replicas)
        until(partial(_has, service, replicas), f"{replicas} serving processes")
        for _ in range(rounds):
            found.append(_crash(service, name))
            print(f"  {found[-1]}", flush=True)
    return found


def _crash(service: Service, name: str) -> Crash:
    model, deployed = service.exported("mlp"), service.deployed(name, model="mlp")
    with steady(deployed.questions(model)["binary"], {"mlp": model}, per_second=PER_SECOND) as load:
        time.sleep(BEFORE_S)
        before = {process.pid for process in _serving(service)}
        victim = min(before)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len({each.pid for each in _serving(service)} - {victim}) >= len(before),
            "the serving process to be started again",
        )
        time.sleep(AFTER_S)
    failed = [each for each in load.asked if each.outcome not in load.models]

    def in_flight(each: Asked) -> bool:
        return each.sent < killed and each.outcome.startswith(CUT_OFF)

    return Crash(
        processes=len(before),
        asked=len(load.asked),
        in_flight=sum(map(in_flight, failed)),
        others=Counter(each.outcome for each in failed if not in_flight(each)),
        failing_s=max((each.done - killed for each in failed), default=0.0),
        slowest_ms=load.percentile_ms(100),
    )


def _has(service: Service, replicas: int) -> bool:
    return len(_serving(service)) >= replicas


def _serving(service: Service) -> list[psutil.Process]:
    """The processes that infer: those of the pool, or the server itself where it has none."""
    root = service.process()
    return [each for each in root.children() if each.status() != psutil.STATUS_ZOMBIE] or [root]


def report(crashes: Sequence[Crash]) -> str:
    rows: list[Sequence[object]] = [
        (
            each.processes,
            f"{each.asked:,}",
            each.in_flight,
            each.others.total()
            and "; ".join(f"{count} of {what}" for what, count in each.others.most_common(3)),
            f"{each.failing_s:.2f} s",
            f"{each.slowest_ms:,.0f} ms",
        )
        for each in crashes
    ]
    rows.append(("promised", "", "only those", "0", f"≤ {PROMISED_S:g} s", ""))
    header = [
        *("processes", "requests", "failed in flight", "failed otherwise"),
        *("failures end after", "slowest answer"),
    ]
    return f"""## `kill -9` of a serving process under load

{PER_SECOND} requests a second, the MLP, binary, over connections that stay open; one of the
processes is killed. A request that was in flight there is cut off. A client that finds its idle connection
closed opens another.

{table(header, rows)}"""
