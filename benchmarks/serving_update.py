"""Updates of a deployment to another export, under load."""

import statistics
import time
from dataclasses import dataclass
from functools import partial

from common import table
from serving_service import API, Service, until
from serving_steady import WRONG, Steady, steady

NAME = "updated"
EXPORTS = ("mlp", "mlp-2")
PER_SECOND = 200
UPDATES = 5


@dataclass(frozen=True)
class Updates:
    load: Steady
    seconds: float
    live_s: list[float]  # from the request for the update to the first answer of the new model
    stale: (
        int  # answers of the old model to what was sent after the service had said that the new one is live
    )


def measure(service: Service, *, seconds: float) -> Updates:
    """``seconds`` of load, with the updates spread over them."""
    exported = {name: service.exported(name) for name in EXPORTS}
    deployed = service.deployed(NAME, model=EXPORTS[0])
    path = f"{API}/{deployed.id}"
    question = deployed.questions(exported[EXPORTS[0]])["binary"]
    asked_ats, told = [], []
    started = time.monotonic()
    with steady(question, exported, per_second=PER_SECOND) as load:
        for n in range(1, UPDATES + 1):
            time.sleep(max(0.0, started + n * seconds / (UPDATES + 1) - time.monotonic()))
            wanted = EXPORTS[n % 2]
            asked_at = time.monotonic()
            revision = service.call("PATCH", path, {"export_job_id": exported[wanted].job_id})["revision"]
            until(partial(_is_live, service, path, revision), f"revision {revision} to be live")
            told.append((time.monotonic(), wanted))
            print(f"  update {n}: live after {told[-1][0] - asked_at:.2f} s", flush=True)
            asked_ats.append(asked_at)
        time.sleep(max(0.0, started + seconds - time.monotonic()))
    elapsed = time.monotonic() - started
    firsts = [
        min(each.done for each in load.asked if each.done > asked_at and each.outcome == wanted) - asked_at
        for asked_at, (_, wanted) in zip(asked_ats, told, strict=True)
    ]
    ends = [*asked_ats[1:], float("inf")]
    stale = sum(
        each.outcome != wanted and each.outcome in EXPORTS
        for (told_at, wanted), end in zip(told, ends, strict=True)
        for each in load.asked
        if told_at < each.sent < end and each.done < end
    )
    return Updates(load, elapsed, firsts, stale)


def _is_live(service: Service, path: str, revision: int) -> bool:
    return service.call("GET", path).get("live_revision") == revision


def report(found: Updates) -> str:
    failed = found.load.failed()
    wrong = failed.pop(WRONG, 0)
    rows = [
        ("requests", f"{len(found.load.asked):,}", ""),
        ("failed", f"{failed.total():,}{_listed(failed)}", "0"),
        ("answers of neither model", f"{wrong:,}", "0"),
        ("answers of the old model after the new one was said to be live", f"{found.stale:,}", "0"),
        ("p50 / p99 / slowest answer", _latencies(found.load), ""),
        (
            "from the update's request to the first answer of it",
            f"{statistics.median(found.live_s):.2f} s",
            "",
        ),
    ]
    return f"""## Updates under load

{PER_SECOND} requests a second for {found.seconds:.0f} s, the MLP, binary, {UPDATES} updates to another export
of it and back (`PATCH /api/v1/deployments/{{id}}`). Every answer was compared with what the two models say.

{table(["what", "measured", "promised"], rows)}"""


def _listed(failed: dict[str, int]) -> str:
    return "".join(f"; {count} {what}" for what, count in failed.items())


def _latencies(load: Steady) -> str:
    p50, p99, slowest = (load.percentile_ms(percent) for percent in (50, 99, 100))
    return f"{p50:.1f} / {p99:.1f} / {slowest:.1f} ms"
