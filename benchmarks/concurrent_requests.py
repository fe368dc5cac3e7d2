"""A hundred concurrent requests for the list of models, with aiohttp.

``python benchmarks/concurrent_requests.py --url http://127.0.0.1:8084``, against a running service;
MODEL_SERVICE_API_KEY is the key, if it requires one. ``load.py`` sends them to a service of its own.
"""

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass

import aiohttp

MODELS = "/api/v1/models"
REQUESTS = 100
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Burst:
    """Requests that were sent at the same time, each over a connection of its own.

    ``latencies_s``: from the start of the burst until each response was read, sorted.
    """

    seconds: float
    latencies_s: list[float]

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies_s) * 1000

    @property
    def slowest_ms(self) -> float:
        return self.latencies_s[-1] * 1000


async def burst(url: str, requests: int = REQUESTS) -> Burst:
    """Send the requests at once. Raises: aiohttp.ClientError: a request failed, or its status is not 2xx."""
    key = os.environ.get("MODEL_SERVICE_API_KEY")
    async with aiohttp.ClientSession(
        headers={"X-API-Key": key} if key else None,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        raise_for_status=True,
    ) as session:
        started = time.perf_counter()

        async def ask() -> float:
            async with session.get(f"{url}{MODELS}") as response:
                await response.read()
            return time.perf_counter() - started

        latencies = await asyncio.gather(*(ask() for _ in range(requests)))
        return Burst(time.perf_counter() - started, sorted(latencies))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8084")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    given = parser.parse_args()
    found = asyncio.run(burst(given.url, given.requests))
    print(
        f"Completed {len(found.latencies_s)} requests in {found.seconds * 1000:.0f} ms: "
        f"p50 {found.p50_ms:.0f} ms, slowest {found.slowest_ms:.0f} ms"
    )


if __name__ == "__main__":
    main()
