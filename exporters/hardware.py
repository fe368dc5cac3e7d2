"""The name of this machine's hardware, with which measurements are labelled. Standard library only."""

import os
import platform
from pathlib import Path


def label() -> str:
    """Return the processor and the number of logical cores, like ``AMD EPYC 7763, 8 cores``."""
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
