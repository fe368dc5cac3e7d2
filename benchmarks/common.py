"""What the benchmarks share: servers, peers in environments of their own, rounds and tables.

Absolute figures move by a third from run to run, so everything that is compared is measured in one run, in
turns, and what is promised is the ratio.
"""

import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from model_service.embedded import Addresses

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
# Peers are installed once and kept for the next run.
PEERS = Path("~/.cache/model-service-benchmarks").expanduser()
MLFLOW = ("mlflow==3.17.2", "gunicorn==23.0.0")
MB = 1_000_000
_START_S = 120.0
_POLL_S = 0.01


@dataclass(frozen=True)
class Server:
    """A server under test, and all of its processes."""

    url: str
    process: psutil.Process
    ready_s: float  # from the process's start

    def rss_bytes(self) -> int:
        """Of the process and its descendants; one that ends meanwhile counts as nothing."""
        return resident(self.process)[0]


def resident(process: psutil.Process) -> tuple[int, int]:
    """RSS, and PSS (what is shared counted once), in bytes, of a process and its descendants."""
    rss = pss = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            memory = each.memory_full_info()
        except psutil.Error:
            continue
        rss, pss = rss + memory.rss, pss + memory.pss
    return rss, pss


@contextmanager
def serving(
    argv: Sequence[str],
    url: str,
    log: Path,
    *,
    env: Mapping[str, str],
    ready: str | Callable[[], bool],
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run ``argv`` until the block ends; ready when ``url + ready`` answers with 200, or its probe holds."""
    probe = partial(_answers, url + ready) if isinstance(ready, str) else ready
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=dict(env), cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not probe():
            if process.poll() is not None or time.monotonic() > started + _START_S:
                raise SystemExit(f"{argv[0]} did not start; its log is {log}")
            time.sleep(_POLL_S)
        yield Server(url, psutil.Process(process.pid), time.monotonic() - started)
    finally:
        _end(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for each in alive:
        each.kill()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def api_server(addresses: Addresses, folder: Path, **settings: str) -> Iterator[Server]:
    """The registry as ``model-service up`` runs it, over servers that are there, with these variables."""
    port = free_port()
    env = {**_environment(addresses, folder), "PORT": str(port), **settings}
    argv = [sys.executable, "-m", "model_service.api"]
    folder.mkdir(exist_ok=True)
    with serving(argv, f"http://127.0.0.1:{port}", folder / "api.log", env=env, ready="/health") as server:
        yield server


@contextmanager
def worker(addresses: Addresses, folder: Path, **settings: str) -> Iterator[None]:
    """A worker of those servers, until the block ends."""
    folder.mkdir(exist_ok=True)
    env = {**_environment(addresses, folder), **settings}
    with (folder / "worker.log").open("wb") as output:
        argv = [sys.executable, "-m", "model_service.jobs"]
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        _end(process)


def _environment(addresses: Addresses, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MONGODB_URL": addresses.mongodb_url,
        "REDIS_URL": addresses.redis_url,
        "MODEL_SERVICE_HOME": str(folder),
        "LOG_LEVEL": "WARNING",
    }


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment that has ``requirements``, made when it is not there."""
    folder = PEERS / f"{name}-{'-'.join(requirements).replace('==', '-')}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        (folder / "complete").touch()
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_turns(rounds: int, measurements: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Every measurement ``rounds`` times, one after the other within a round, so that noise meets all."""
    figures: dict[str, list[float]] = {name: [] for name in measurements}
    for n in range(rounds):
        for name, measure in measurements.items():
            figures[name].append(measure())
            print(f"  round {n + 1}: {name}: {figures[name][-1]:,.0f}", flush=True)
    return figures


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the ratios within each round, which a machine that slows down meanwhile does not distort."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def setting() -> str:
    """The day, the commit and the machine, in one line under a table's title."""
    memory = psutil.virtual_memory().total / 2**30
    describe = ["git", "describe", "--always", "--dirty"]
    described = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = described.stdout.strip() or "unknown"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; "
        f"load average {os.getloadavg()[2]:.1f} over the last 15 minutes, ours and others'."
    )


def write_results(name: str, text: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(f"\n{text}\n→ {RESULTS / name}.md")
