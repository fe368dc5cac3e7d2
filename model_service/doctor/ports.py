"""The ports on which the parts of the service listen."""

import json
from collections.abc import Iterator

import urllib3

from model_service.config import WILDCARDS, http_url
from model_service.doctor.findings import Finding, Part, Setup, error, ok
from model_service.listening import explain, require_free

_PROBE = urllib3.Timeout(3)


def check(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    if Part.API in setup.parts:
        yield _port("port", "PORT", settings.host, settings.port)
    if Part.SERVING in setup.parts:
        yield _port("inference-port", "INFERENCE_PORT", settings.inference_host, settings.inference_port)
    if Part.WORKER in setup.parts and settings.worker_metrics_port is not None:
        yield _port("worker-port", "WORKER_METRICS_PORT", settings.host, settings.worker_metrics_port)


def _port(name: str, variable: str, host: str, port: int) -> Finding:
    try:
        require_free(host, port)
    except OSError as exc:
        if _is_ours(host, port):
            return ok(name, f"{variable}={port} is in use by this service")
        return error(name, f"{variable}={port} {explain(exc)}")
    return ok(name, f"{variable}={port} is free")


def _is_ours(host: str, port: int) -> bool:
    """Return whether a part of the service responds there."""
    url = f"{http_url('127.0.0.1' if host in WILDCARDS else host, port)}/health/live"
    try:
        found = json.loads(urllib3.request("GET", url, retries=False, timeout=_PROBE).data)
    except (urllib3.exceptions.HTTPError, ValueError):
        return False
    return isinstance(found, dict) and str(found.get("service", "")).startswith("model-service")
