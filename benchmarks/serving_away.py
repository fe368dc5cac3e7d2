"""Keys that are revoked, and MongoDB and Redis away."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from common import table
from serving_load import ask
from serving_models import Question
from serving_service import API, Service, call, until
from serving_steady import Steady, steady

NAME = "mlp"
PROMISED_S = 2.0
PROBE_S = 0.01
PROBERS = 4
QUIET_S = 2.0
PER_SECOND = 50
HUNG_S = 10.0
GONE_S = 20.0


@dataclass(frozen=True)
class Revoked:
    """From the answer to the revocation until the last request that the key was good for."""

    last_accepted_s: float
    probes: int


@dataclass(frozen=True)
class Away:
    """What a steady load met while the databases were hung, then gone, and what health said of it."""

    how: str
    load: Steady
    health: tuple[int, str]


def measure_revocation(service: Service, *, rounds: int) -> list[Revoked]:
    """Over new connections, so that every serving process is asked."""
    name = "revoked"
    model, deployed = service.exported(NAME), service.deployed(name, model=NAME, replicas=2)
    found = []
    for n in range(rounds):
        path = f"{API}/{deployed.id}/keys"
        made = service.call("POST", path, {"name": f"to-be-revoked-{n}"})
        question = replace(deployed, key=made["key"]).questions(model)["binary"]
        until(partial(_works, question), "the new key to work")
        found.append(_revoke(service, question, f"{path}/{made['id']}"))
        print(f"  {found[-1]}", flush=True)
    return found


def _works(question: Question) -> bool:
    """Everywhere: no process that was asked has refused it, or has yet to load what it opens."""
    for _ in range(50):
        ask(question)
    return True


def _revoke(service: Service, question: Question, path: str) -> Revoked:
    accepted: list[float] = []
    asked: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(PROBE_S):
            sent = time.monotonic()
            asked.append(sent)
            if _accepted(question):
                accepted.append(sent)

    with ThreadPoolExecutor(PROBERS) as threads:
        probers = [threads.submit(probe) for _ in range(PROBERS)]
        try:
            service.call("DELETE", path)
            revoked = time.monotonic()
            until(
                lambda: time.monotonic() - max([revoked, *accepted]) > QUIET_S,
                "the key to be refused",
                deadline_s=60,
            )
        finally:
            stop.set()
        for each in probers:
            each.result()  # a prober that broke off has seen nothing
    return Revoked(max(0.0, max([revoked, *accepted]) - revoked), len(asked))


def _accepted(question: Question) -> bool:
    """Raises SystemExit where the refusal is not a 401."""
    try:
        ask(question)
    except ValueError as exc:
        if " answered 401" not in str(exc):
            raise SystemExit(str(exc)) from None
        return False
    return True


def measure_away(service: Service) -> list[Away]:
    """Ends the databases: nothing can follow it."""
    model, deployed = service.exported(NAME), service.deployed(NAME)
    question = deployed.questions(model)["binary"]
    databases = _databases(service.folder / "servers")
    found = []
    for how, seconds, begin in (
        ("hung", HUNG_S, signal.SIGSTOP),
        ("gone", GONE_S, signal.SIGKILL),
    ):
        for process in databases:
            os.kill(process.pid, begin)
        with steady(question, {NAME: model}, per_second=PER_SECOND) as load:
            time.sleep(seconds)
            health = _health(service.inference_url)
        if begin == signal.SIGSTOP:
            for process in databases:
                os.kill(process.pid, signal.SIGCONT)
            time.sleep(QUIET_S)
        found.append(Away(how, load, health))
        print(f"  {how}: {len(load.asked)} asked, failed {dict(load.failed())}", flush=True)
    return found


def _databases(folder: Path) -> list[psutil.Process]:
    """mongod and Redis of this benchmark: the children of this process that work in that folder."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith(("mongod", "redis-server")) and str(folder) in " ".join(
                [*process.cmdline(), process.cwd()]
            ):
                found.append(process)
    if len(found) != 2:
        raise SystemExit(f"found {[each.name() for each in found]} where mongod and redis-server should be")
    return found


def _health(url: str) -> tuple[int, str]:
    answer = call(url, "GET", "/health")
    return 200, ", ".join(f"{key}: {value}" for key, value in answer.items() if key != "service")


def report_revocation(found: Sequence[Revoked]) -> str:
    worst = max(each.last_accepted_s for each in found)
    rows = [
        ("revocations", len(found), ""),
        ("requests with the key meanwhile", sum(each.probes for each in found), ""),
        (
            "last one accepted after the revocation's answer, at worst",
            f"{worst:.2f} s",
            f"≤ {PROMISED_S:g} s",
        ),
    ]
    return f"""## A revoked key

`DELETE /api/v1/deployments/{{id}}/keys/{{key_id}}`, of a deployment with two serving processes, asked over
new connections.

{table(["what", "measured", "promised"], rows)}"""


def report_away(found: Sequence[Away]) -> str:
    rows = [
        (
            each.how,
            f"{len(each.load.asked):,}",
            f"{each.load.failed().total():,}"
            + "".join(f"; {count} of {what}" for what, count in each.load.failed().most_common(2)),
            f"{each.load.percentile_ms(50):.1f} / {each.load.percentile_ms(99):.1f} ms",
            each.health[1],
        )
        for each in found
    ]
    rows.append(("promised", "", "0", "", "says so"))
    return f"""## MongoDB and Redis away

Both at once: hung (SIGSTOP) for {HUNG_S:g} s, then gone (SIGKILL) for {GONE_S:g} s;
{PER_SECOND} requests a second meanwhile.

{table(["databases", "requests", "failed", "p50 / p99", "`/health` says"], rows)}"""
