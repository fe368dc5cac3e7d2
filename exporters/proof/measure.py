"""Measure an artefact's speed on this machine: the measured part of ``performance`` in metadata.json."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import hardware, runners
from ..base import EMPTY, Arrays, Case
from . import verify

# Enough calls for a 99th percentile. A slow model is measured for a third of a second, but at least once.
_CALLS = 200
_DURATION_S = 0.3
# Models that are compared: turns short enough that a load of the machine affects all of them.
_TURN_CALLS = 10
_TURN_S = 0.02
_TURNS = 100
_TURNS_S = 2.0
_LEAST_TURNS = 5

Predict = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Latency:
    """Percentiles of a model's calls."""

    p50_ms: float
    p99_ms: float
    calls: int


def measure(runner: runners.Runner, all_cases: Sequence[Case], details: Mapping[str, Any]) -> dict[str, Any]:
    """Measure an artefact on the smallest compared batch; see ``timed``."""
    return timed(runner.predict, smallest(all_cases), details)


def smallest(all_cases: Sequence[Case]) -> Arrays:
    """Return the inputs of the smallest batch that has rows."""
    with_rows = [case for case in all_cases if case.kind != EMPTY]
    return min(with_rows, key=lambda case: sum(array.size for array in case.inputs.values())).inputs


def in_turns(predicts: Sequence[Predict], inputs: Arrays) -> list[Latency]:
    """Measure models on one core, in turns: a load of the machine slows all of them equally.

    A model has several calls a turn. The first one is not measured: it fills the caches again.
    """
    durations: list[list[float]] = [[] for _ in predicts]
    deadline = time.perf_counter() + _TURNS_S
    for turn in range(_TURNS):
        if turn >= _LEAST_TURNS and time.perf_counter() > deadline:
            break
        for predict, measured in zip(predicts, durations, strict=True):
            measured += _durations(predict, inputs, _TURN_CALLS, _TURN_S)
    return [_latency(measured) for measured in durations]


def timed(predict: Predict, inputs: Arrays, details: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Measure the latency of one batch, on one core, or for a TensorRT engine on its GPU.

    ``p50_ms`` and ``p99_ms`` are percentiles of ``calls``; ``inference_latency_ms`` is the former.

    Args:
        details: the artefact's details; ``gpu`` names the graphics processor that it runs on.
    """
    batch = next((array.shape[0] for array in inputs.values() if array.ndim), 1)
    found = _latency(_durations(predict, inputs, _CALLS, _DURATION_S))
    return {
        "inference_latency_ms": found.p50_ms,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "calls": found.calls,
        "throughput_fps": round(1000 * batch / found.p50_ms, 1),
        "hardware": details.get("gpu") or hardware.label(),
        "cores": os.cpu_count() or 1,
        "batch_size": batch,
        "threads": 1,
        "runtimes": verify.tools(),
    }


def _durations(predict: Predict, inputs: Arrays, calls: int, duration_s: float) -> list[float]:
    """Return the seconds of up to ``calls`` calls within ``duration_s``, at least one, after another one."""
    predict(inputs)
    durations: list[float] = []
    deadline = time.perf_counter() + duration_s
    while len(durations) < calls and (not durations or time.perf_counter() < deadline):
        started = time.perf_counter()
        predict(inputs)
        durations.append(time.perf_counter() - started)
    return durations


def _latency(durations: Sequence[float]) -> Latency:
    p50_s, p99_s = np.percentile(durations, [50, 99])
    return Latency(round(float(p50_s) * 1000, 4), round(float(p99_s) * 1000, 4), len(durations))
