"""The registry with a thousand and a million model versions, and beside MLflow.

``python benchmarks/registry.py``; ``--quick`` is a look at 20,000 versions. MLflow is installed by this, into
an environment of its own. A million versions take about 10 GB of disk and as many minutes to put there.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import registry_peer
import registry_sizes
from common import api_server, in_turns, median_ratio, setting, table, write_results
from http_load import Target
from model_versions import fill
from registry_peer import fill_mlflow, mlflow_server
from registry_sizes import Registry

from model_service.config import read_settings
from model_service.embedded import Addresses, servers

SMALL = 1_000
WORKERS = "2"
CACHE_GB = 8.0  # mongod's own default is half of the memory: a million versions with their indexes fit

Figures = Mapping[str, Sequence[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--versions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="for each p50")
    parser.add_argument("--seconds", type=float, default=5, help="for each rate")
    parser.add_argument("--quick", action="store_true", help="20,000 versions, two short rounds")
    parser.add_argument("--no-peer", action="store_true", help="without MLflow")
    given = parser.parse_args()
    if given.quick:
        given.versions, given.rounds, given.requests, given.seconds = 20_000, 2, 100, 2
    random.seed(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-registry-")))
        addresses = stack.enter_context(servers(folder / "servers", cache_gb=CACHE_GB))
        sizes = {f"{size:,}": size for size in (SMALL, given.versions)}
        registries = {
            label: Registry(_serve(stack, addresses, folder, size), size) for label, size in sizes.items()
        }
        print("p50 in µs at one connection")
        latencies = in_turns(given.rounds, registry_sizes.measurements(registries, given.requests))
        rates: Figures = {}
        if not given.no_peer:
            mlflow = Target(stack.enter_context(mlflow_server(folder)).url)
            fill_mlflow(mlflow, SMALL)
            print("requests/s at sixteen connections")
            small = registries[f"{SMALL:,}"]
            rates = in_turns(given.rounds, registry_peer.measurements(small, mlflow, SMALL, given.seconds))
    write_results("registry", report(list(sizes), given.rounds, latencies, rates))


def _serve(stack: ExitStack, addresses: Addresses, folder: Path, size: int) -> Target:
    """A registry filled with so many versions, as its own server."""
    home = folder / f"home-{size}"
    home.mkdir()
    database = f"registry-{size}"
    settings = read_settings(
        mongodb_url=addresses.mongodb_url,
        redis_url=addresses.redis_url,
        mongodb_db=database,
        model_service_home=home,
    )
    started = time.monotonic()
    fill(settings, size, processes=2)
    print(f"{size:,} versions put there in {time.monotonic() - started:.0f} s", flush=True)
    server = api_server(addresses, home, MONGODB_DB=database, API_WORKERS=WORKERS)
    return Target(stack.enter_context(server).url)


def report(sizes: Sequence[str], rounds: int, latencies: Figures, rates: Figures) -> str:
    small, large = sizes
    kinds = [name.removesuffix(f", {small}") for name in latencies if name.endswith(f", {small}")]
    grown = [
        _row(kind, latencies[f"{kind}, {small}"], latencies[f"{kind}, {large}"], _promised(kind))
        for kind in kinds
    ]
    text = f"""# The registry

`python benchmarks/registry.py`, {rounds} rounds. {setting()}

p50 in µs at one connection, {small} and {large} model versions, MongoDB's cache {CACHE_GB:g} GB; the ratio is
the median of the rounds' own. No round asks for the same tags and words as another.

{table(["question", small, large, "ratio", "promised"], grown)}"""
    if rates:
        beside = [
            (
                kind,
                f"{_middle(rates[f'{kind}, ours']):,.0f}",
                f"{_middle(rates[f'{kind}, MLflow']):,.0f}",
                f"{median_ratio(rates[f'{kind}, ours'], rates[f'{kind}, MLflow']):.2f}",
                f"≥ {promise:g}",
            )
            for kind, promise in registry_peer.PROMISES.items()
        ]
        text += f"""
Requests a second at {registry_peer.CONNECTIONS} connections, {small} models and two processes on both sides.
A create is journaled by a majority here, committed to SQLite's WAL there. MLflow:
{", ".join(registry_peer.MLFLOW)}, two processes of two threads.

{table(["request", "ours", "MLflow", "ratio", "promised"], beside)}"""
    return text


def _row(kind: str, small: Sequence[float], large: Sequence[float], promise: float) -> Sequence[object]:
    ratio = median_ratio(large, small)
    return kind, f"{_middle(small):,.0f}", f"{_middle(large):,.0f}", f"{ratio:.2f}", f"≤ {promise:g}"


def _promised(kind: str) -> float:
    return registry_sizes.PROMISES.get(kind, registry_sizes.PROMISE)


def _middle(figures: Sequence[float]) -> float:
    return sorted(figures)[len(figures) // 2]


if __name__ == "__main__":
    main()
