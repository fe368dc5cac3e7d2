"""What many transfers at once cost in memory, and whether others are answered meanwhile."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from common import MB, Server, table
from streams import download, upload

SIZE_BYTES = 1 << 30
FAST, SLOW, UPLOADS = 12, 4, 4
SLOW_BYTES_PER_S = 5 * MB
_SAMPLE_S = 0.05


@dataclass
class Memory:
    idle_bytes: int
    peak_bytes: int = 0
    seconds: float = 0
    health_s: list[float] = field(default_factory=list)

    def report(self) -> str:
        rows = [
            ["resident, idle", f"{self.idle_bytes / 2**20:,.0f} MiB", ""],
            ["resident, peak", f"{self.peak_bytes / 2**20:,.0f} MiB", ""],
            ["peak over idle", f"{(self.peak_bytes - self.idle_bytes) / 2**20:,.0f} MiB", "≤ 150 MiB"],
            ["slowest `GET /health` meanwhile", f"{max(self.health_s) * 1000:,.0f} ms", ""],
        ]
        return (
            f"All processes of the API while {FAST + SLOW} downloads from GridFS and {UPLOADS} uploads of "
            f"{SIZE_BYTES >> 20} MiB each run at once. {SLOW} of the readers take "
            f"{SLOW_BYTES_PER_S / MB:.0f} MB/s; they are cut off when the others have ended, after "
            f"{self.seconds:,.0f} s. Idle is before the first transfer.\n\n"
        ) + table(["what", "measured", "promise"], rows)


def measure_memory(server: Server, new_model: Callable[[Server], str], folder: Path) -> Memory:
    path = folder / "large"
    with path.open("wb") as file:
        for _ in range(0, SIZE_BYTES, 1 << 24):
            file.write(os.urandom(1 << 24))
    files = [path, *(folder / f"large-{n}" for n in range(1, UPLOADS))]
    for n, copy in enumerate(files[1:], 1):
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            file.write(bytes([n]) * 32)
    memory = Memory(server.rss_bytes())
    source = new_model(server)
    upload("POST", f"{server.url}{source}/upload", path)
    targets = [new_model(server) for _ in files]
    with path.open("r+b") as file:
        file.write(os.urandom(32))  # or it would be known already
    done = threading.Event()
    url = f"{server.url}{source}/download"
    started = time.monotonic()
    with ThreadPoolExecutor(FAST + SLOW + UPLOADS + 2) as pool:
        watchers = [pool.submit(_watch, server, memory, done), pool.submit(_ask, server, memory, done)]
        slow = [pool.submit(download, url, bytes_per_s=SLOW_BYTES_PER_S, until=done) for _ in range(SLOW)]
        fast = [pool.submit(download, url) for _ in range(FAST)]
        fast += [
            pool.submit(upload, "POST", f"{server.url}{target}/upload", file)
            for target, file in zip(targets, files, strict=True)
        ]
        try:
            for future in fast:
                future.result()
        finally:
            memory.seconds = time.monotonic() - started
            done.set()
        for future in [*watchers, *slow]:
            future.result()
    return memory


def _watch(server: Server, memory: Memory, done: threading.Event) -> None:
    while not done.wait(_SAMPLE_S):
        memory.peak_bytes = max(memory.peak_bytes, server.rss_bytes())


def _ask(server: Server, memory: Memory, done: threading.Event) -> None:
    while not done.wait(0.5):
        started = time.monotonic()
        download(f"{server.url}/health")
        memory.health_s.append(time.monotonic() - started)
