"""The sweeper: removes expired trash, unfinished uploads and unreferenced bytes.

One worker at a time sweeps. Every step may run twice and may be interrupted. An error in one step does not
prevent the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NotRequired

import structlog
from typing_extensions import TypedDict

from model_service.config import Settings
from model_service.storage.common.db import CONNECTION_ERRORS
from model_service.storage.common.leases import Leases
from model_service.storage.operations.maintenance import Maintenance
from model_service.storage.stores import Stores

log = structlog.get_logger(__name__)

TASK = "sweep"
INTERVAL_S = 600.0
# Interval at which a worker checks whether a sweep is due.
LOOK_S = 30.0
_LEASE_S = 900.0


@dataclass(frozen=True)
class Step:
    """``run`` returns the number of removed items, or None if it does not count them."""

    name: str
    run: Callable[[], int | None]
    # Archives need the blobs that their snapshot contains.
    while_archiving: bool = True


def make_sweeper(settings: Settings, stores: Stores) -> "Sweeper":
    keep_s = settings.deleted_keep_days * 86_400.0
    steps = [
        Step("removed_files", lambda: stores.removed_files.purge_removed(keep_s)),
        Step("deleted_models", lambda: stores.trash.purge_deleted(keep_s)),
        Step("blobs", lambda: stores.blobs.sweep(settings.orphan_safety_s), while_archiving=False),
        Step("counters", stores.counters.prune),
        Step("download_counters", stores.downloads.prune),
    ]
    return Sweeper(stores.leases, stores.maintenance, steps)


class SweepResult(TypedDict):
    """The removed items and the errors, by step."""

    removed: dict[str, int]
    errors: dict[str, str]
    duration_s: NotRequired[float]


class Sweeper:
    def __init__(self, leases: Leases, maintenance: Maintenance, steps: list[Step]) -> None:
        self._leases = leases
        self._maintenance = maintenance
        self._steps = steps

    def sweep_if_due(self) -> SweepResult | None:
        """Sweep if the last sweep is long enough ago and no other worker sweeps."""
        return self.sweep() if self._maintenance.due(TASK, INTERVAL_S) else None

    def sweep(self) -> SweepResult | None:
        """Return the removed items and errors by step; None while another worker sweeps."""
        lease = self._leases.acquire(TASK, _LEASE_S)
        if lease is None:
            return None
        try:
            began = time.monotonic()
            result: SweepResult = {"removed": {}, "errors": {}}
            for step in self._steps:
                self._run(step, result)
                self._leases.renew(lease)
            result["duration_s"] = round(time.monotonic() - began, 3)
            self._maintenance.ended(TASK, result)
        finally:
            self._leases.release(lease)
        if any(result["removed"].values()):
            log.info("sweep.removed", **result["removed"])
        return result

    def _run(self, step: Step, result: SweepResult) -> None:
        if not step.while_archiving and self._leases.archiving():
            result["errors"][step.name] = "postponed: an archive is being written"
            return
        try:
            result["removed"][step.name] = step.run() or 0
        except CONNECTION_ERRORS:
            raise
        except Exception as exc:
            log.exception("sweep.failed", step=step.name)
            result["errors"][step.name] = f"{type(exc).__name__}: {exc}"[:300]
