"""One serving process, assembled from its parts."""

import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from model_service.config import Settings, require_folder
from model_service.serving.accounting.flushing import Accounting
from model_service.serving.accounting.keys import KeyUses
from model_service.serving.accounting.quotas import Quotas
from model_service.serving.accounting.usage import Usage
from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.deployment_metrics import DeploymentMetrics
from model_service.serving.hosting.host import Host
from model_service.serving.hosting.store import PackageStore
from model_service.serving.http.app import InferenceApp
from model_service.serving.http.inference_handler import InferenceHandler
from model_service.serving.http.rsgi import BodyLimits
from model_service.serving.model_hosts.groups import ModelHosts
from model_service.serving.pool.busy import processors
from model_service.storage.access.rate_windows import RateWindows
from model_service.storage.common.db import Database
from model_service.storage.migrations import prepare_database
from model_service.storage.stores import build_stores
from model_service.tiers import Tiers
from model_service.wrong_keys import WrongKeys

# A deployment's minimum and maximum of processes, its target utilisation in percent, and initial processes.
Wish = tuple[int, int, int, int]


class Application:
    """``rsgi`` answers requests immediately; ``start`` begins to load the deployments.

    Args:
        index: of the process in its pool; a restarted process has the same one.
    """

    def __init__(self, settings: Settings, index: int = 0) -> None:
        database = Database(settings)
        stores = build_stores(database)
        counts = stores.usage
        self._rates = RateWindows(settings, stores.secrets)
        quotas = Quotas(self._rates, counts)
        server = f"{socket.gethostname()}:{settings.inference_port}:{index}".replace(".", "-")
        threads = settings.inference_threads or processors()
        self._engine = Engine(threads, lanes=max(1, processors() // threads))
        store = PackageStore(stores.blobs, settings.home / "serving")
        self._model_hosts = ModelHosts(settings)
        self._host = Host(
            stores.served_deployments,
            stores.serving_reports,
            store,
            self._engine,
            self._model_hosts,
            server=server,
        )
        metrics = DeploymentMetrics(self._host)
        usage, key_uses = Usage(metrics.count), KeyUses()
        self._servers, self._server = stores.inference_servers, server
        self._accounting = Accounting(usage, key_uses, quotas, counts, self._owners, self._report)
        handler = InferenceHandler(
            usage,
            key_uses,
            quotas,
            Tiers.read(settings),
            bodies=BodyLimits(settings.max_inference_body, settings.body_grace_s, settings.body_min_rate),
            wrong_keys=WrongKeys.of(settings),
            proxies=settings.trusted_proxies,
        )
        self.rsgi: Callable[[Any, Any], Awaitable[None]] = InferenceApp(self._host, handler, quotas, metrics)

    @property
    def ready(self) -> threading.Event:
        """Set once everything that was active at the start is loaded, or has failed too often."""
        return self._host.ready

    def start(self) -> None:
        self._host.start()
        self._accounting.start()

    def stop(self) -> None:
        """Stop after the last request. The counts are written, if MongoDB is available."""
        self._host.stop()
        self._accounting.stop()
        self._engine.stop()
        self._model_hosts.close()
        self._rates.close()

    def load(self) -> tuple[float, list[Wish]]:
        """Return the seconds since the start in which models ran, and the deployments' wishes."""
        wishes = [
            (
                wish["min_replicas"],
                wish["max_replicas"],
                wish["target_utilization"],
                wish.get("initial_replicas", 0),
            )
            for wish in self._host.wishes
        ]
        return self._engine.busy_seconds(), wishes

    def _report(self) -> None:
        state = {"pid": os.getpid(), "model_hosts": self._model_hosts.state()}
        self._servers.report(self._server, state)

    def _owners(self) -> set[str]:
        return {hosted.owner for hosted in self._host.hosted()}


def make(settings: Settings, index: int = 0) -> Application:
    """Create the application. Raises SettingsError, also if MongoDB is not available at the start."""
    require_folder(settings.home, "MODEL_SERVICE_HOME")
    prepare_database(settings)
    return Application(settings, index)
