"""What the running workers can convert, and with which versions of which tools: as they report it."""

from typing import Any

from model_service.storage.operations.workers import ALIVE_S, Workers


class Toolchains:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def digests(self) -> list[str]:
        """Of the toolchains that an export asked for now may be made with; none where no worker runs."""
        return sorted({report["digest"] for report in self.reports()})

    def reports(self) -> list[dict[str, Any]]:
        """What each running worker said of its tools, as ``jobs.toolchain.Toolchain.to_json`` does."""
        return [worker["toolchain"] for worker in self._workers.alive(ALIVE_S) if worker.get("toolchain")]
