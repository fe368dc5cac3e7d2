"""Every Prometheus metric. Labels are bounded: a route's pattern instead of its path, and no ids.

The processes of one server write to the folder chosen by ``metrics_folder``, and each returns the metrics of
all. Without a folder, a process returns only its own.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from model_service.metrics_folder import VARIABLE
from model_service.states import JobErrorCode

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("model_service_api_requests_total", "Answered requests", ["endpoint", "method", "status"])
REQUEST_DURATION = Histogram(
    "model_service_request_duration_seconds", "Time until the response's headers", ["endpoint", "method"]
)
REGISTRATIONS = Counter("model_registrations_total", "Registered model versions", ["algorithm"])
DOWNLOADS = Counter("model_downloads_total", "Whole-file downloads that began", ["algorithm"])
MONGODB_OPERATIONS = Counter(
    "model_service_mongodb_operations_total", "Commands sent to MongoDB", ["operation"]
)
LOGINS = Counter("model_service_logins_total", "Sessions asked for with a password", ["outcome"])
CACHE_REQUESTS = Counter(
    "model_service_file_cache_requests_total", "Downloads that were looked up in the disk cache", ["outcome"]
)
CACHE_BYTES = Counter(
    "model_service_file_cache_bytes_total",
    "Bytes stored in, sent from and evicted from the disk cache",
    ["what"],
)
INFERENCES = Counter("model_service_inference_requests_total", "Answered inference requests", ["status"])
INFERENCE_DURATION = Histogram(
    "model_service_inference_duration_seconds",
    "Time that the model ran",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
EXPORTS = Counter(
    "model_service_exports_total",
    "Attempts of exports that ended in a worker, by outcome",
    ["format", "outcome"],
)
EXPORT_DURATION = Histogram(
    "model_service_export_duration_seconds",
    "Time from claiming an export until it ended",
    ["format"],
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
)
# The codes of failed exports. A converter reads untrusted files: any other code from it counts as ``other``.
FAILURE_CODES = (*JobErrorCode, "other")
EXPORT_FAILURES = Counter(
    "model_service_export_failures_total", "Exports that failed in a worker, by error code", ["error_code"]
)
EVALUATIONS = Counter(
    "model_service_evaluations_total",
    "Attempts of evaluations that ended in a worker, by outcome",
    ["outcome"],
)
PACKAGE_BUILDS = Counter(
    "model_service_package_builds_total",
    "Attempts of builds of packages that ended in a worker, by deployment type and outcome",
    ["type", "outcome"],
)
LEASES_LOST = Counter(
    "model_service_leases_lost_total",
    "Leases of running exports, evaluations and builds that expired: their worker was lost",
)
WEBHOOK_DELIVERIES = Counter(
    "model_service_webhook_deliveries_total", "Attempts to deliver an event to a webhook", ["outcome"]
)
SCANS = Counter("model_service_file_scans_total", "Scanned files", ["verdict"])
SHADOWED = Counter(
    "model_service_shadow_requests_total", "Requests that were copied to a shadow", ["outcome"]
)
MODEL_HOST_RESTARTS = Counter(
    "model_service_model_host_restarts_total", "Restarts of model hosts after their first start"
)


_MAX_LABEL_VALUES = 100
_seen: set[str] = set()


def bounded(value: str) -> str:
    """Return a label for a user's text: the first hundred different texts, then ``other``."""
    if len(_seen) < _MAX_LABEL_VALUES:
        _seen.add(value)
    return value if value in _seen else "other"


# The registry's values, read from MongoDB at each scrape, and so equal in every process.
GAUGES = {
    "model_service_models_total": "Model versions registered now",
    "active_models_total": "Model versions with the status active",
    "storage_usage_bytes": "Bytes of all stored files; equal files count once",
    "model_service_workers": "Live workers",
    "model_service_accepts_writes": "1, or 0 while MongoDB's disk has less than DISK_MIN_FREE",
    "model_service_mongodb_disk_free_bytes": "Free space on MongoDB's disk",
    "model_service_cache_disk_free_bytes": "Free space on the disk of the file cache",
    "model_service_work_disk_free_bytes": "Free space on the disk of the API's and the workers' workspace",
    "model_service_temp_disk_free_bytes": "Free space on the disk of the temporary folder",
    "model_service_last_sweep_timestamp_seconds": "Time when the last sweep ended",
    "model_service_last_verify_problems": "Problems that the last verification found",
    "model_service_last_backup_timestamp_seconds": "Time when the last backup was complete",
    "model_service_queue_jobs": "Export jobs that wait for a worker",
    "model_service_running_jobs": "Export jobs that a worker runs",
    "model_service_queue_oldest_age_seconds": "Age of the oldest waiting export; 0: none",
    "model_service_running_oldest_age_seconds": "Time since the longest attempt began; 0: none",
    "model_service_queue_evaluations": "Evaluations that wait for a worker",
    "model_service_running_evaluations": "Evaluations that a worker runs",
    "model_service_queue_oldest_evaluation_age_seconds": "Age of the oldest waiting evaluation; 0: none",
    "model_service_running_oldest_evaluation_age_seconds": "Time since the longest attempt began; 0: none",
    "model_service_queue_package_builds": "Packages of deployments that wait for a worker",
    "model_service_queue_oldest_package_build_age_seconds": "Age of the oldest waiting package; 0: none",
    "model_service_queue_inspections": "Datasets whose files wait for an inspection",
    "model_service_webhook_oldest_age_seconds": "Age of the oldest undelivered event; 0: none",
    "model_service_queue_scans": "Models whose files wait for a scan",
    "model_service_next_key_expiry_timestamp_seconds": "Earliest expiry of a key in use",
    "model_service_disk_warn_free_bytes": "The setting DISK_WARN_FREE",
}
# Metrics that are exposed under two names.
_ALIASES = {
    "model_downloads": "model_service_downloads",
    "model_service_request_duration_seconds": "api_request_duration_seconds",
}
_FOLDED = "dead"
_FOLDABLE = ("counter", "histogram")


class _Exposed(Collector):
    def __init__(
        self, source: Collector | CollectorRegistry, gauges: Mapping[str, float], others: list[Metric]
    ) -> None:
        self._source = source
        self._gauges = gauges
        self._others = others

    def collect(self) -> Iterator[Metric]:
        for metric in self._source.collect():
            yield metric
            if (alias := _ALIASES.get(metric.name)) is not None:
                yield _renamed(metric, alias)
        for name, value in self._gauges.items():
            yield GaugeMetricFamily(name, GAUGES[name], value=value)
        yield from self._others


def _renamed(metric: Metric, alias: str) -> Metric:
    again = Metric(alias, metric.documentation, metric.type)
    again.samples = [
        sample._replace(name=alias + sample.name.removeprefix(metric.name)) for sample in metric.samples
    ]
    return again


def count_failure(code: str) -> None:
    """Count an export that failed with this error code."""
    EXPORT_FAILURES.labels(code if code in FAILURE_CODES else "other").inc()


def start_at_zero() -> None:
    """Expose a worker's failures as 0 before the first one, which Prometheus would not see as an increase."""
    for code in FAILURE_CODES:
        EXPORT_FAILURES.labels(code)


def exposition(gauges: Mapping[str, float] | None = None, others: Iterable[Metric] = ()) -> bytes:
    """Return all metrics for Prometheus; ``gauges`` are values of ``GAUGES``."""
    folder = os.environ.get(VARIABLE)
    registry = CollectorRegistry()
    others = list(others)  # before the lock, which they take themselves
    if folder is None:
        registry.register(_Exposed(REGISTRY, gauges or {}, others))
        return generate_latest(registry)
    fold_dead()
    with locked(folder, fcntl.LOCK_SH):
        counted = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        registry.register(_Exposed(counted, gauges or {}, others))
        return generate_latest(registry)


def fold_dead() -> None:
    """Add up the counts of dead processes in one file for each kind of metric.

    Otherwise a server whose processes are replaced from time to time would collect more and more files, and
    every scrape would read them all. If the files were simply removed, the counters would decrease.
    """
    folder = os.environ.get(VARIABLE)
    dead = [path for path in Path(folder).glob("*.db") if is_dead(path)] if folder else []
    if not folder or not dead:
        return
    with locked(folder, fcntl.LOCK_EX):
        for kind in _FOLDABLE:
            paths = [path for path in dead if path.name.startswith(f"{kind}_") and path.exists()]
            if paths:
                _fold(Path(folder) / f"{kind}_{_FOLDED}.db", paths)
        for path in dead:
            path.unlink(missing_ok=True)


def _fold(target: Path, paths: list[Path]) -> None:
    totals: dict[str, float] = defaultdict(float)
    for path in [*paths, *([target] if target.exists() else [])]:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            totals[key] += value
    aside = target.with_suffix(".tmp")
    aside.unlink(missing_ok=True)
    values = MmapedDict(str(aside))  # type: ignore[no-untyped-call]
    for key, value in totals.items():
        values.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    aside.replace(target)


def is_dead(path: Path) -> bool:
    """Return whether the process whose id ends the file's name has ended."""
    pid = path.stem.rpartition("_")[2]
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


@contextmanager
def locked(folder: str, how: int) -> Iterator[None]:
    """Lock the folder, so that a scrape sees each count once while it moves from file to file."""
    with (Path(folder) / "lock").open("ab") as lock:
        fcntl.flock(lock, how)
        yield
