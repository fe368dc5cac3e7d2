"""The probes of a worker."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import urllib3
from pydantic import SecretStr

from model_service.config import Settings
from model_service.jobs.metrics_endpoint import MetricsEndpoint
from model_service.jobs.presence import Presence
from model_service.storage.common.db import CONNECTION_ERRORS, Database
from model_service.storage.operations.workers import Workers
from tests.e2e.conftest import free_ports


@contextmanager
def probed(settings: Settings, presence: Presence) -> Iterator[str]:
    port = free_ports(1)[0]
    endpoint = MetricsEndpoint(settings.model_copy(update={"worker_metrics_port": port}), presence.is_known)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        endpoint.close()


def status(url: str) -> int:
    return urllib3.request("GET", url, retries=False, timeout=10).status


def test_a_worker_is_ready_once_it_has_reported_to_mongodb(settings: Settings, database: Database) -> None:
    presence = Presence(Workers(database), "worker")
    with probed(settings, presence) as url:
        assert (status(f"{url}/health/live"), status(f"{url}/health/ready")) == (200, 503)
        presence.report()
        assert (status(f"{url}/health/live"), status(f"{url}/health/ready")) == (200, 200)
        assert status(f"{url}/metrics") == 200
        assert status(f"{url}/health") == 404


def test_without_mongodb_a_worker_is_live_and_not_ready(settings: Settings) -> None:
    away = f"mongodb://127.0.0.1:{free_ports(1)[0]}/?serverSelectionTimeoutMS=100"
    database = Database(settings.model_copy(update={"mongodb_url": SecretStr(away)}))
    presence = Presence(Workers(database), "worker")
    with probed(settings, presence) as url:
        with suppress(*CONNECTION_ERRORS):
            presence.report()
        assert (status(f"{url}/health/live"), status(f"{url}/health/ready")) == (200, 503)
    database.close()
