"""Measure an artefact's speed on this machine: the measured part of ``performance`` in metadata.json."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import runners
from ..base import EMPTY, Arrays, Case
from . import verify

# Enough calls for a 99th percentile. A slow model is measured for a third of a second, but at least once.
_CALLS = 200
_DURATION_S = 0.3


def measure(runner: runners.Runner, all_cases: Sequence[Case], details: Mapping[str, Any]) -> dict[str, Any]:
    """Measure an artefact on the smallest compared batch; see ``timed``."""
    with_rows = [case for case in all_cases if case.kind != EMPTY]
    smallest = min(with_rows, key=lambda case: sum(array.size for array in case.inputs.values()))
    return timed(runner.predict, smallest.inputs, details)


def timed(
    predict: Callable[[Arrays], Arrays], inputs: Arrays, details: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """Measure the latency of one batch, on one core, or for a TensorRT engine on its GPU.

    ``p50_ms`` and ``p99_ms`` are percentiles of ``calls``; ``inference_latency_ms`` is the former.

    Args:
        details: the artefact's details; ``gpu`` names the graphics processor that it runs on.
    """
    batch = next((array.shape[0] for array in inputs.values() if array.ndim), 1)
    predict(inputs)
    durations: list[float] = []
    deadline = time.perf_counter() + _DURATION_S
    while len(durations) < _CALLS and (not durations or time.perf_counter() < deadline):
        started = time.perf_counter()
        predict(inputs)
        durations.append(time.perf_counter() - started)
    p50_s, p99_s = np.percentile(durations, [50, 99])
    return {
        "inference_latency_ms": round(p50_s * 1000, 4),
        "p50_ms": round(p50_s * 1000, 4),
        "p99_ms": round(p99_s * 1000, 4),
        "calls": len(durations),
        "throughput_fps": round(batch / p50_s, 1),
        "hardware": details.get("gpu") or processor(),
        "cores": os.cpu_count() or 1,
        "batch_size": batch,
        "threads": 1,
        "runtimes": verify.tools(),
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
