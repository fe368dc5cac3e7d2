"""The bare onnxruntime session, called in a process that has nothing else to do: what no server can beat.

``python serving_bare.py FILE CALLERS THREADS BATCH SECONDS`` prints ``{"per_second": …, "p50_ms": …}``.
"""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from serving_load import Rate
from serving_models import Exported

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Way:
    """``callers`` threads share one session, which uses ``threads`` cores for a call of ``batch`` rows."""

    callers: int
    threads: int
    batch: int = 1

    def __str__(self) -> str:
        callers = f"{self.callers} caller{'s' * (self.callers > 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{callers} of {threads}" + (f", batches of {self.batch}" if self.batch > 1 else "")


ALONE = Way(1, 1)
ALONE_ON_ALL_CORES = Way(1, CORES)
WAYS = tuple(
    dict.fromkeys(
        [
            *(ALONE, ALONE_ON_ALL_CORES, Way(CORES, 1), Way(2 * CORES, 1)),
            *(Way(1, CORES, batch=4), Way(CORES, 1, batch=16)),
        ]
    )
)


def measure(model: Exported, way: Way, seconds: int) -> Rate:
    """Rows a second, and how long one call takes."""
    argv = [sys.executable, __file__, str(model.onnx), str(way.callers), str(way.threads), str(way.batch)]
    found = subprocess.run([*argv, str(seconds)], check=True, capture_output=True)
    return Rate(**json.loads(found.stdout))


def main(file: str, callers: str, threads: str, batch: str, seconds: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(str(Path(file)), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    rows = np.random.default_rng(0).standard_normal((int(batch), *given.shape[1:]), dtype=np.float32)
    feed = {given.name: rows}
    latencies: list[list[float]] = [[] for _ in range(int(callers))]
    session.run(None, feed)

    def call(taken: list[float], end: float) -> None:
        before = time.perf_counter()
        while before < end:
            session.run(None, feed)
            after = time.perf_counter()
            taken.append(after - before)
            before = after

    started = time.perf_counter()
    threads_ = [threading.Thread(target=call, args=(taken, started + float(seconds))) for taken in latencies]
    for each in threads_:
        each.start()
    for each in threads_:
        each.join()
    elapsed = time.perf_counter() - started
    every = np.concatenate(latencies) * 1000
    figures = {
        "per_second": len(every) * int(batch) / elapsed,
        "p50_ms": float(np.percentile(every, 50)),
        "p99_ms": float(np.percentile(every, 99)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
