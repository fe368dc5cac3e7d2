"""Health of the service, determined within about a second even if a dependency hangs.

``healthy``; ``degraded`` if the service works but an administrator should look at something; ``unhealthy`` if
it does not work. Redis and workers never make it unhealthy: without them jobs wait, and nothing is lost.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from model_service.config import Settings
from model_service.jobs.queue import Queue
from model_service.services.archive.archive import BACKUP
from model_service.services.operations.integrity import TASK as VERIFY
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.common.db import DATABASE_ERRORS, deadline
from model_service.storage.operations.documents import (
    InferenceServerProcess,
    MaintenanceRun,
    WorkerProcess,
)
from model_service.storage.operations.workers import ALIVE_S
from model_service.storage.stores import Stores

Status = Literal["healthy", "degraded", "unhealthy"]
HEALTHY = "healthy"
# Deadline for all MongoDB queries together. Redis has a second of its own, at the same time.
_DATABASE_S = 0.9
_SAMPLED_MODELS = 3
_GAUGES_S = 5.0
_SWEEP = "sweep"
_KEY_IN_USE = timedelta(days=7)
_AWAY = "cannot be reached"


@dataclass(frozen=True)
class Health:
    mongodb_connected: bool
    gridfs_available: bool
    redis_connected: bool
    accepts_writes: bool
    total_models: int | None

    @property
    def healthy(self) -> bool:
        return self.mongodb_connected and self.gridfs_available


@dataclass
class Checks:
    """Results of the checks. ``checks``: healthy, or the problem. ``fatal``: those that mean unhealthy."""

    checks: dict[str, str] = field(default_factory=dict)
    fatal: set[str] = field(default_factory=set)
    total_models: int | None = None
    active_models: int | None = None
    stored_bytes: int | None = None
    workers: list[WorkerProcess] = field(default_factory=list)
    inference_servers: list[InferenceServerProcess] = field(default_factory=list)
    last_sweep: MaintenanceRun | None = None
    last_verify: MaintenanceRun | None = None
    last_backup: MaintenanceRun | None = None
    work: dict[str, float | None] = field(default_factory=dict)

    def say(self, name: str, problem: str | None, *, fatal: bool = False) -> None:
        self.checks[name] = problem or HEALTHY
        if problem and fatal:
            self.fatal.add(name)

    @property
    def issues(self) -> list[str]:
        return [name for name, state in self.checks.items() if state != HEALTHY]

    @property
    def status(self) -> Status:
        return "unhealthy" if self.fatal else "degraded" if self.issues else "healthy"


class HealthService:
    def __init__(self, settings: Settings, stores: Stores, queue: Queue, disk: DiskSpace) -> None:
        self._settings = settings
        self._database = stores.database
        self._models = stores.models
        self._blobs = stores.blobs
        self._counters = stores.counters
        self._integrity = stores.integrity
        self._maintenance = stores.maintenance
        self._workers = stores.workers
        self._inference_servers = stores.inference_servers
        self._queue = queue
        self._export_turns = stores.export_turns
        self._evaluation_turns = stores.evaluation_turns
        self._build_turns = stores.package_build_turns
        self._inspections = stores.inspections
        self._outbox = stores.outbox
        self._deliveries = stores.deliveries
        self._scans = stores.scans
        self._access_keys = stores.access_keys
        self._deployment_keys = stores.deployment_keys
        self._disk = disk
        self._gauges: tuple[float, dict[str, float]] = (float("-inf"), {})
        self._gauges_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="health")

    def check(self) -> Health:
        """Return the short health report."""
        redis = self._threads.submit(self._queue.ping)
        try:
            with deadline(_DATABASE_S):
                self._database.ping()
                readable, total = self._blobs.readable(), self._models.count()
            self._disk.sample()
            return Health(True, readable, redis.result(), self._disk.accepts_writes, total)
        except DATABASE_ERRORS:
            return Health(False, False, redis.result(), False, None)

    def ready(self) -> bool:
        """Return whether requests can be served, which means that MongoDB responds."""
        try:
            with deadline(_DATABASE_S):
                self._database.ping()
        except DATABASE_ERRORS:
            return False
        return True

    def detailed(self) -> Checks:
        """Return the full report: every part with its problem."""
        redis: Future[bool] = self._threads.submit(self._queue.ping)
        found = Checks()
        with deadline(_DATABASE_S):
            connected = self._ask(found, "mongodb", lambda: self._database.ping(), fatal=True)
            gridfs = connected and self._ask(found, "gridfs", lambda: self._gridfs(found), fatal=True)
            if connected and gridfs:
                self._ask(found, "disk_space", lambda: self._disk_space(found))
                self._ask(found, "model_registry", lambda: self._registry(found))
                self._ask(found, "workers", lambda: self._count_workers(found))
        for name in ("gridfs", "disk_space", "model_registry", "workers"):
            found.checks.setdefault(name, f"unknown: MongoDB {_AWAY}")
        if not redis.result():
            found.say("redis", _AWAY)
        else:
            found.say("redis", None)
        found.say("cache", self._cache())
        return found

    def gauges(self) -> dict[str, float]:
        """Return the values of ``metrics.GAUGES``, at most 5 s old; most are missing without MongoDB."""
        with self._gauges_lock:
            read_at, gauges = self._gauges
            if time.monotonic() - read_at > _GAUGES_S:
                gauges = self._read_gauges()
                self._gauges = time.monotonic(), gauges
        self._disk.sample()
        free = {f"model_service_{place}_disk_free_bytes": left for place, left in self._disk.free().items()}
        return {**gauges, **free, "model_service_accepts_writes": float(self._disk.accepts_writes)}

    def _read_gauges(self) -> dict[str, float]:
        found = Checks()
        try:
            with deadline(_DATABASE_S):
                self._read_figures(found)
                self._count_workers(found)
                found.last_backup = self._maintenance.last(BACKUP)
                found.work = self._work()
        except DATABASE_ERRORS:
            return {}
        sweep, verify, backup = found.last_sweep, found.last_verify, found.last_backup
        gauges: dict[str, float | None] = {
            "model_service_models_total": found.total_models,
            "active_models_total": found.active_models,
            "storage_usage_bytes": found.stored_bytes,
            "model_service_workers": len(found.workers),
            "model_service_last_sweep_timestamp_seconds": sweep["at"].timestamp() if sweep else None,
            "model_service_last_verify_problems": verify["problems"] if verify else None,
            "model_service_last_backup_timestamp_seconds": backup["at"].timestamp() if backup else None,
            **found.work,
            "model_service_disk_warn_free_bytes": self._settings.disk_warn_free,
        }
        return {name: float(value) for name, value in gauges.items() if value is not None}

    def _work(self) -> dict[str, float | None]:
        """Return the gauges of waiting and running jobs, and of the keys in use."""
        waiting, running = self._export_turns.backlog()
        waiting_evaluations, running_evaluations = self._evaluation_turns.backlog()
        waiting_builds, _ = self._build_turns.backlog()
        expiries = [
            self._access_keys.next_expiry(_KEY_IN_USE),
            self._deployment_keys.next_expiry(_KEY_IN_USE),
        ]
        return {
            "model_service_queue_jobs": waiting.count,
            "model_service_queue_oldest_age_seconds": waiting.oldest_s,
            "model_service_running_jobs": running.count,
            "model_service_running_oldest_age_seconds": running.oldest_s,
            "model_service_queue_evaluations": waiting_evaluations.count,
            "model_service_queue_oldest_evaluation_age_seconds": waiting_evaluations.oldest_s,
            "model_service_running_evaluations": running_evaluations.count,
            "model_service_running_oldest_evaluation_age_seconds": running_evaluations.oldest_s,
            "model_service_queue_package_builds": waiting_builds.count,
            "model_service_queue_oldest_package_build_age_seconds": waiting_builds.oldest_s,
            "model_service_queue_inspections": self._inspections.count_waiting(),
            "model_service_webhook_oldest_age_seconds": self._oldest_event_s(),
            "model_service_queue_scans": self._scans.count_waiting(),
            "model_service_next_key_expiry_timestamp_seconds": min(
                (at.timestamp() for at in expiries if at is not None), default=None
            ),
        }

    def _oldest_event_s(self) -> float:
        """Return the age of the oldest event that an active webhook has not got."""
        active = [webhook["_id"] for webhook in self._outbox.webhooks()]
        return max(self._outbox.age_s(), self._deliveries.oldest_age_s(active)) if active else 0.0

    def _ask(self, found: Checks, name: str, question: Callable[[], object], *, fatal: bool = False) -> bool:
        """Run a check, which reports its findings itself. Returns whether the database responded in time."""
        try:
            question()
        except DATABASE_ERRORS as exc:
            found.say(name, f"no answer: {type(exc).__name__}", fatal=fatal)
            return False
        found.checks.setdefault(name, HEALTHY)
        return True

    def _gridfs(self, found: Checks) -> None:
        if not self._blobs.readable():
            found.say("gridfs", "the index of the chunks is missing", fatal=True)

    def _disk_space(self, found: Checks) -> None:
        self._disk.sample()
        free, settings = self._disk.free(), self._settings
        low = sorted((left, place) for place, left in free.items() if left < settings.disk_warn_free)
        problems = [f"{left / 1e9:.1f} GB free ({place})" for left, place in low]
        if not self._disk.accepts_writes:
            least = f"{settings.disk_min_free / 1e9:.3g} GB"
            problems.append(f"writes are rejected with 507 until {least} (DISK_MIN_FREE) are free at mongodb")
        fatal = any(left < settings.disk_min_free for left, _ in low)
        found.say("disk_space", "; ".join(problems) or None, fatal=fatal)

    def _registry(self, found: Checks) -> None:
        self._read_figures(found)
        problems = self._integrity.sample(_SAMPLED_MODELS)
        if found.last_verify and found.last_verify["problems"]:
            problems.append(f"the verification of {found.last_verify['at']:%Y-%m-%d %H:%M} found problems")
        if found.last_sweep and found.last_sweep["errors"]:
            problems += [f"sweep of {step}: {error}" for step, error in found.last_sweep["errors"].items()]
        found.say("model_registry", "; ".join(problems) or None)

    def _read_figures(self, found: Checks) -> None:
        groups = self._counters.groups()
        found.total_models = sum(group.models for group in groups)
        found.active_models = sum(group.models for group in groups if group.status == "active")
        found.stored_bytes = self._counters.blobs()[1]
        found.last_sweep = self._maintenance.last(_SWEEP)
        found.last_verify = self._maintenance.last(VERIFY)

    def _count_workers(self, found: Checks) -> None:
        found.workers = self._workers.alive(ALIVE_S)
        found.inference_servers = self._inference_servers.alive(ALIVE_S)
        found.say("workers", None if found.workers else "no worker is running: exports wait")

    def _cache(self) -> str | None:
        """Return a problem if the cache folder exists but is not writable."""
        folder = self._settings.cache
        if self._settings.cache_max_bytes and folder.exists() and not os.access(folder, os.W_OK):
            return f"cannot write to {folder}"
        return None
