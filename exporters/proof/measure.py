"""Measure an artefact's speed on this machine: the measured part of ``performance`` in metadata.json."""

import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import runners
from ..base import EMPTY, Case

# Enough calls for a median. A slow model is measured for a third of a second, but at least once.
_CALLS = 11
_DURATION_S = 0.3


def measure(runner: runners.Runner, all_cases: Sequence[Case], details: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the latency of the smallest compared batch, on one core, or for a TensorRT engine on its GPU.

    Args:
        details: the artefact's details; ``gpu`` names the graphics processor that it runs on.
    """
    with_rows = [case for case in all_cases if case.kind != EMPTY]
    smallest = min(with_rows, key=lambda case: sum(array.size for array in case.inputs.values()))
    batch = next((array.shape[0] for array in smallest.inputs.values() if array.ndim), 1)
    runner.predict(smallest.inputs)
    durations: list[float] = []
    deadline = time.perf_counter() + _DURATION_S
    while len(durations) < _CALLS and (not durations or time.perf_counter() < deadline):
        started = time.perf_counter()
        runner.predict(smallest.inputs)
        durations.append(time.perf_counter() - started)
    latency_s = statistics.median(durations)
    return {
        "inference_latency_ms": round(latency_s * 1000, 4),
        "throughput_fps": round(batch / latency_s, 1),
        "hardware": details.get("gpu") or processor(),
        "batch_size": batch,
        "threads": 1,
    }


def processor() -> str:
    """Return this machine's processor and number of logical cores, like ``AMD EPYC 7763, 8 cores``."""
    cores = os.cpu_count() or 1
    return f"{_model_name()}, {cores} core{'s' if cores > 1 else ''}"


def _model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware") and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine()
