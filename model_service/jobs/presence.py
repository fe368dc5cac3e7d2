"""Heartbeats of a worker, with its toolchain and the confinement of its conversions."""

import json
import os
import subprocess
import sys
import tempfile
import time

import structlog

from model_service.jobs.toolchain import Toolchain
from model_service.storage.operations.workers import ALIVE_S, Workers

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
_PROBE_S = 30
# The confinement that a converter applies to itself first, tried in a short-lived process.
_PROBE = """
import json, pathlib, sys
from exporters.sandbox import landlock, limits
limits.die_with_parent()
network = limits.isolate_network()
print(json.dumps({"network": network, "files": landlock.confine_to(pathlib.Path(sys.argv[1]))}))
"""


class Presence:
    def __init__(self, workers: Workers, name: str, toolchain: Toolchain | None = None) -> None:
        self._workers = workers
        self._name = name
        self._reported = float("-inf")
        self._state = {
            "pid": os.getpid(),
            "sandbox": _sandbox(),
            "toolchain": toolchain and toolchain.to_json(),
        }

    def set_toolchain(self, toolchain: Toolchain) -> None:
        self._state = {**self._state, "toolchain": toolchain.to_json()}
        self.report()

    def report(self) -> None:
        self._workers.report(self._name, self._state)
        self._reported = time.monotonic()

    def is_known(self) -> bool:
        """Return whether the service counts this worker as live: its last report in MongoDB is recent."""
        return time.monotonic() - self._reported < ALIVE_S

    def leave(self) -> None:
        self._workers.leave(self._name)


def _sandbox() -> dict[str, str]:
    """Return ``network`` and ``files``, each ``isolated`` or ``open: <reason>``."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer = subprocess.run(
                [sys.executable, "-I", "-c", _PROBE, folder],
                capture_output=True,
                check=True,
                timeout=_PROBE_S,
            )
            found: dict[str, str] = json.loads(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as exc:
            log.warning("worker.sandbox_unknown", error=str(exc))
            return {"network": "unknown", "files": "unknown"}
    return found
