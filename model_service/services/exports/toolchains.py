"""The toolchains of the running workers: what they can convert, with which versions of which tools."""

from typing import Any

from model_service.storage.operations.workers import ALIVE_S, Workers


class Toolchains:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def digests(self) -> list[str]:
        """Return the digests of the toolchains that may convert a new export; empty if no worker runs."""
        return sorted({report["digest"] for report in self.reports()})

    def reports(self) -> list[dict[str, Any]]:
        """Return the toolchain report of each running worker, see ``jobs.toolchain.Toolchain.to_json``."""
        return [worker["toolchain"] for worker in self._workers.alive(ALIVE_S) if worker.get("toolchain")]
