"""The toolchains of the running workers: what they can convert, with which versions of which tools."""

from model_service.storage.operations.documents import ToolchainReport
from model_service.storage.operations.workers import ALIVE_S, Workers


class Toolchains:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def digests(self) -> list[str]:
        """Return the digests of the toolchains that may convert a new export; empty if no worker runs."""
        return sorted({report["digest"] for report in self.reports()})

    def hardware(self) -> set[str]:
        """Return the labels of the running workers' hardware."""
        return {label for report in self.reports() if (label := report.get("hardware"))}

    def reports(self) -> list[ToolchainReport]:
        """Return the toolchain report of each running worker, see ``jobs.toolchain.Toolchain.to_json``."""
        return [report for worker in self._workers.alive(ALIVE_S) if (report := worker.get("toolchain"))]
