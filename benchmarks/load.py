"""The registry under load: Locust's users for half a minute, then bursts of a hundred concurrent requests.

``python benchmarks/load.py``; ``--quick`` is a look. Locust is installed by this, into an environment of its
own.
"""

import argparse
import asyncio
import csv
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import concurrent_requests
from common import api_server, peer_python, setting, table, write_results
from concurrent_requests import Burst
from http_load import Target
from model_versions import fill

from model_service.config import read_settings
from model_service.embedded import servers

LOCUST = ("locust==2.47.0",)
LOCUSTFILE = Path(__file__).parent / "locustfile.py"
MODELS = 1_000
PROCESSES = (1, 2)
USERS = (100, 1000)
SPAWNED_PER_S = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, help="of each run of Locust")
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="short runs and few bursts")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.bursts = 5, 3
    python = peer_python("locust", LOCUST)
    users: list[list[object]] = []
    bursts: list[list[object]] = []
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-load-") as temporary,
        servers(Path(temporary) / "servers") as addresses,
    ):
        folder = Path(temporary)
        settings = read_settings(
            mongodb_url=addresses.mongodb_url, redis_url=addresses.redis_url, model_service_home=folder
        )
        fill(settings, MODELS, processes=2)
        for processes in PROCESSES:
            home = folder / f"{processes}"
            with api_server(addresses, home, API_WORKERS=str(processes)) as server:
                _warm_up(server.url)
                for count in USERS:
                    found = _locust(python, server.url, home, count, given.seconds)
                    users += [[processes, count, *row] for row in found]
                found = [asyncio.run(concurrent_requests.burst(server.url)) for _ in range(given.bursts)]
                bursts.append([processes, *_of_bursts(found)])
    write_results("load", _report(given.seconds, given.bursts, users, bursts))


def _warm_up(url: str) -> None:
    target = Target(url)
    for _ in range(50):
        target.ask(target.get(concurrent_requests.MODELS))


def _locust(python: Path, url: str, folder: Path, users: int, seconds: int) -> list[list[str]]:
    """Return a row for each kind of request, from Locust's own statistics."""
    prefix = folder / f"users-{users}"
    starting_s = users // SPAWNED_PER_S  # not counted, with --reset-stats
    argv = [
        *(str(python), "-m", "locust", "--headless", "--reset-stats", "--locustfile", str(LOCUSTFILE)),
        *("--host", url, "--users", str(users), "--spawn-rate", str(SPAWNED_PER_S)),
        *("--run-time", f"{starting_s + seconds}s", "--csv", str(prefix)),
    ]
    done = subprocess.run(
        argv, env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"Locust ended with {done.returncode}: a request failed, or it did not start")
    with Path(f"{prefix}_stats.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] in _SHOWN]
    return [
        [
            _SHOWN[row["Name"]],
            f"{int(row['Request Count']):,}",
            row["Failure Count"],
            f"{float(row['Requests/s']):.0f}",
            *(row[percentile] for percentile in ("50%", "95%", "99%")),
        ]
        for row in rows
    ]


_SHOWN = {
    concurrent_requests.MODELS: "list",
    f"{concurrent_requests.MODELS}/[id]": "one model",
    "Aggregated": "both",
}


def _of_bursts(found: list[Burst]) -> list[str]:
    seconds = [each.seconds for each in found]
    return [
        f"{statistics.median(each.p50_ms for each in found):.0f}",
        f"{statistics.median(each.slowest_ms for each in found):.0f}",
        f"{max(each.slowest_ms for each in found):.0f}",
        f"{concurrent_requests.REQUESTS / statistics.median(seconds):.0f}",
    ]


def _report(seconds: int, bursts: int, users: list[list[object]], of_bursts: list[list[object]]) -> str:
    shown = table(
        [
            "API processes",
            "users",
            "request",
            "requests",
            "failed",
            "per second",
            "p50, ms",
            "p95, ms",
            "p99, ms",
        ],
        users,
    )
    shown_bursts = table(
        ["API processes", "p50, ms", "slowest of a hundred, ms", "slowest of all, ms", "requests per second"],
        of_bursts,
    )
    return f"""# The registry under load

`python benchmarks/load.py`. {setting()}

{MODELS:,} model versions. The registry, MongoDB, Redis and the load share the cores.

## Locust

`benchmarks/locustfile.py` with {LOCUST[0].replace("==", " ")}, {seconds} s after all users have started.
Each user waits 1 to 3 s between requests, and reads a model three times as often as the list of 20.

{shown}
## A hundred concurrent requests

`benchmarks/concurrent_requests.py`: a hundred requests for the list of 20, sent with aiohttp at the same
time over a hundred new connections, {bursts} times. Medians of the bursts; latency
is measured from the start of the burst.

{shown_bursts}"""


if __name__ == "__main__":
    main()
