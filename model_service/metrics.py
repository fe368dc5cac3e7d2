"""Every Prometheus metric. Labels are bounded: a route's pattern, never a path; no id.

Several processes of one server write to the folder in PROMETHEUS_MULTIPROC_DIR, and any of them answers for
all; without it a process answers for itself.
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("model_service_api_requests_total", "Requests answered", ["endpoint", "method", "status"])
REQUEST_DURATION = Histogram(
    "model_service_request_duration_seconds", "Time until the answer's headers", ["endpoint", "method"]
)
REGISTRATIONS = Counter("model_registrations_total", "Model versions registered", ["algorithm"])
DOWNLOADS = Counter("model_downloads_total", "Whole-file downloads begun", ["algorithm"])
INFERENCES = Counter("model_service_inference_requests_total", "Inference requests answered", ["status"])
INFERENCE_DURATION = Histogram(
    "model_service_inference_duration_seconds",
    "Time in the model",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


_MAX_LABEL_VALUES = 100
_seen: set[str] = set()


def bounded(value: str) -> str:
    """A label from a user's text: the first hundred different ones, then ``other``."""
    if len(_seen) < _MAX_LABEL_VALUES:
        _seen.add(value)
    return value if value in _seen else "other"


def exposition() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
