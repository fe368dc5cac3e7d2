"""What others notice of a model that runs away, beside one that burns as much processor time and behaves.

Two models are asked at a steady rate, one in the front and one in a model host of its own, while a third
one in another host misbehaves. The misbehaving models come from the tests, and are stored without an export.
"""

import http.client
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from common import ROOT, table
from serving_hosted import model_hosts
from serving_models import Exported, v2_binary
from serving_service import Service, one_more, until
from serving_steady import steady

from model_service.config import read_settings
from model_service.storage.common.db import Database
from model_service.storage.migrations import prepare
from model_service.storage.stores import build_stores

sys.path.append(str(ROOT))
from tests.serving.conftest import KEY, Stored, made_package, rewritten
from tests.serving.model_hosts import hostile

DATABASE = "runaway"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
PER_SECOND = 50
TIMEOUT_MS = 1000
BUSY_S = 0.5  # of a run that behaves
PAUSE_S = 0.05
CRASH_S = 0.2  # into a run; and half of that to see which host it is in
NEIGHBOURS = ("front", "host")
BUSY, AGAIN = "none: it is busy and behaves", "none, again"
LOOP, OPERATOR, MEMORY, SIGNAL = "loop of 1e18 rounds", "operator of a minute", "100 GB", "SIGSEGV"
CASES = (BUSY, LOOP, OPERATOR, MEMORY, SIGNAL, AGAIN)
Answer = tuple[int, float]  # HTTP status, seconds


@dataclass
class Seen:
    """In one round. The slowest answers are in seconds."""

    p99_ms: Mapping[str, float]
    failed: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    health_failed: int = 0
    health_slowest_s: float = 0.0


def measure(service: Service, folder: Path, *, rounds: int, seconds: float) -> dict[str, list[Seen]]:
    """By case, one of each a round."""
    addresses = service.addresses
    settings = read_settings(
        mongodb_url=addresses.mongodb_url, redis_url=addresses.redis_url, mongodb_db=DATABASE
    )
    database = Database(settings)
    prepare(database)
    stores = build_stores(database)
    stored = Stored(database, stores.blobs, stores.deployments)
    package = made_package(folder)
    hostiles = {LOOP: hostile.loop(), OPERATOR: hostile.multiplication(), MEMORY: hostile.allocation()}
    packages = {name: rewritten(package, "model.onnx", model, folder) for name, model in hostiles.items()}
    ids = {"front": _of(stored, package, "front"), "host": _of(stored, packages[LOOP], "neighbour")}
    ids |= {name: _of(stored, packages[name], name) for name in packages}
    environment = {
        "MONGODB_DB": DATABASE,
        "MODEL_SERVICE_HOME": str(folder / "home"),
        "ENABLE_AUTH": "true",
        "API_KEY": "a-key-of-the-benchmark",
        "INFERENCE_TRUSTED_NAMESPACES": "front",
    }
    found: dict[str, list[Seen]] = {case: [] for case in CASES}
    with one_more(service, folder / "server.log", **environment) as (process, url, _):
        until(lambda: all(stored.status(each) == "active" for each in ids.values()), "the deployments")
        server = _Server(url, process, ids)
        server.calibrate()
        for n in range(rounds):
            for case in CASES:
                found[case].append(seen := server.round(case, seconds))
                print(f"  round {n + 1}: {case}: {seen}", flush=True)
    database.close()
    return found


def _of(stored: Stored, package: bytes, namespace: str) -> str:
    """A deployment of a namespace of its own, and so, unless it is trusted, of a model host of its own."""
    made = stored.deploy(package, timeout_ms=TIMEOUT_MS)
    stored.database.deployments.update_one({"_id": made}, {"$set": {"namespace": namespace}})
    return made


class _Server:
    def __init__(self, url: str, process: psutil.Process, ids: Mapping[str, str]) -> None:
        self._url = url
        self._process = process
        self._ids = ids
        self._busy_rounds = 1000.0
        self._numbers = count()

    def calibrate(self) -> None:
        """Find how many rounds of the loop take BUSY_S."""
        while (took_s := self._ask(LOOP, self._busy_rounds)[1]) < BUSY_S / 2:
            self._busy_rounds *= 2
        self._busy_rounds *= BUSY_S / took_s

    def round(self, case: str, seconds: float) -> Seen:
        question = {
            name: v2_binary(f"{self._url}/v2/models/{self._ids[name]}/infer", _MODEL, AUTHORIZATION)
            for name in NEIGHBOURS
        }
        seen = Seen({})
        third = {
            BUSY: lambda: self._ask(LOOP, self._busy_rounds),
            AGAIN: lambda: self._ask(LOOP, self._busy_rounds),
            LOOP: lambda: self._ask(LOOP, 1e18),
            OPERATOR: lambda: self._ask(OPERATOR, 16_000.0),
            MEMORY: lambda: self._ask(MEMORY, 25e9),
            SIGNAL: self._crash,
        }[case]
        with (
            steady(question["front"], {"it": _MODEL}, per_second=PER_SECOND) as front,
            steady(question["host"], {"it": _MODEL}, per_second=PER_SECOND) as host,
            _meanwhile(third, seen.answers) as slowest,
            _meanwhile(lambda: _request(self._url, "GET", "/health/live"), health := Counter()) as live,
        ):
            time.sleep(seconds)
        loads = dict(zip(NEIGHBOURS, (front, host), strict=True))
        seen.p99_ms = {name: load.percentile_ms(99) for name, load in loads.items()}
        seen.failed = sum(load.failed().total() for load in loads.values())
        seen.slowest_s, seen.health_slowest_s = max(slowest), max(live)
        seen.health_failed = health.total() - health[200]
        return seen

    def _ask(self, name: str, value: float) -> Answer:
        """Each input is another one: what killed its host once is refused later."""
        number = next(self._numbers) % 1_000_000
        body = json.dumps({"inputs": [[hostile.QUIET + value, float(number), 3.0]]})
        return _request(self._url, "POST", f"/v1/infer/{self._ids[name]}", body)

    def _crash(self) -> Answer:
        """A signal ends the host of LOOP in the middle of a run."""
        killer = threading.Timer(CRASH_S, self._kill)
        killer.start()
        answer = self._ask(LOOP, self._busy_rounds)
        killer.join()
        return answer

    def _kill(self) -> None:
        with suppress(psutil.Error, ProcessLookupError):
            time_s = {each: sum(each.cpu_times()[:2]) for each in model_hosts(self._process)}
            time.sleep(CRASH_S / 2)
            for host, before_s in time_s.items():
                if sum(host.cpu_times()[:2]) - before_s > CRASH_S / 8:  # it runs, and does not only answer
                    os.kill(host.pid, signal.SIGSEGV)


@contextmanager
def _meanwhile(ask: Callable[[], Answer], answers: "Counter[int]") -> Iterator[list[float]]:
    """Ask again and again while the block runs; the seconds that each answer took."""
    stop = threading.Event()
    taken: list[float] = []

    def run() -> None:
        while not stop.is_set():
            status, took_s = ask()
            answers[status] += 1
            taken.append(took_s)
            stop.wait(PAUSE_S)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


def _request(url: str, method: str, path: str, body: str | None = None) -> Answer:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    asked = time.monotonic()
    try:
        connection.request(method, path, body, AUTHORIZATION | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.monotonic() - asked
    except (OSError, http.client.HTTPException):
        return 0, time.monotonic() - asked
    finally:
        connection.close()


class _Doubled(Exported):
    """Twice its input, as all models here answer while they behave."""

    input_name = "x"
    expected = np.asarray([[2, 4, 6]], np.float32)


_MODEL = _Doubled("doubled", "", Path(), np.asarray([[1, 2, 3]], np.float32))


def report(found: Mapping[str, Sequence[Seen]]) -> str:
    rows = []
    for case, rounds in found.items():
        answers = sum((each.answers for each in rounds), Counter[int]())
        p99 = [statistics.median(each.p99_ms[name] for each in rounds) for name in NEIGHBOURS]
        ratios = [
            statistics.median(
                each.p99_ms[name] / busy.p99_ms[name] for each, busy in zip(rounds, found[BUSY], strict=True)
            )
            for name in NEIGHBOURS
        ]
        rows.append(
            [
                case,
                *(f"{each:.1f}" for each in p99),
                *(f"{each:.2f}" for each in ratios),
                sum(each.failed for each in rounds),
                ", ".join(f"{count} of {status}" for status, count in answers.most_common()),
                f"{max(each.slowest_s for each in rounds):.2f}",
                f"{max(each.health_slowest_s for each in rounds) * 1000:.0f}, "
                f"{sum(each.health_failed for each in rounds)} failed",
            ]
        )
    header = ["misbehaviour", "front, p99 ms", "host, p99 ms", "front, ratio", "host, ratio", "failed"]
    header += ["its own answers", "the slowest, s", "`/health/live`: slowest, ms"]
    rows.append(["promised", "", "", "≤ 1.2", "≤ 1.2", 0, "", f"{TIMEOUT_MS / 1000 + 1:g}", "0 failed"])
    return f"""## Beside a model that runs away

Two models are asked {PER_SECOND} times a second each: one in the front, and one in a model host of its own.
Meanwhile a third, in another host, is asked again and again for what misbehaves; its `timeout_ms` is
{TIMEOUT_MS}. Beside it one that behaves, and is busy for {BUSY_S:g} s of every run: the ratios are to that
one, of the same round. {len(found[BUSY])} rounds, in turns; medians.

{table(header, rows)}"""
