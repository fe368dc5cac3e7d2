"""Builds and runs a worker; ``__main__`` starts it."""

import os
import socket
import threading
from contextlib import suppress

from model_service.config import Settings
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Converter
from model_service.jobs.metrics_endpoint import MetricsEndpoint
from model_service.jobs.presence import INTERVAL_S, Presence
from model_service.jobs.queue import Queue
from model_service.jobs.reconcile import Reconciler
from model_service.jobs.schedule import Periodic
from model_service.jobs.sweep import LOOK_S, make_sweeper
from model_service.jobs.toolchain import find_toolchain
from model_service.jobs.webhooks import INTERVAL_S as WEBHOOKS_S
from model_service.jobs.webhooks import WebhookDelivery
from model_service.metrics import start_at_zero
from model_service.storage.blobs.disk_space import DiskSpace
from model_service.storage.common.db import CONNECTION_ERRORS, Database
from model_service.storage.common.shared_redis import check_redis
from model_service.storage.migrations import prepare
from model_service.storage.stores import build_stores


def run(settings: Settings) -> int:
    """Run jobs until SIGTERM or SIGINT. Returns the exit code.

    Raises:
        SettingsError: a setting is wrong, or MongoDB or Redis cannot be used.
    """
    database = Database(settings)
    database.check()
    prepare(database)
    check_redis(settings)
    stores = build_stores(database, settings)
    queue = Queue(settings, stores.secrets)
    start_at_zero()
    context = Context(
        settings=settings,
        worker=f"{socket.gethostname()}-{os.getpid()}",
        stores=stores,
        disk=DiskSpace(settings, database),
        converter=Converter(settings),
        stopping=threading.Event(),
        toolchain=find_toolchain(settings.home, importing=False),
    )
    CONTEXT.set(context)
    reconciler = Reconciler(context, queue)
    presence = Presence(stores.workers, context.worker, context.toolchain)
    metrics = None
    if settings.worker_metrics_port is not None:
        metrics = MetricsEndpoint(settings, presence.is_known)
    webhooks = WebhookDelivery(settings, stores)
    periodic = [
        Periodic("presence", INTERVAL_S, presence.report),
        Periodic("sweep", LOOK_S, make_sweeper(settings, stores).sweep_if_due),
        Periodic("webhooks", WEBHOOKS_S, webhooks.run),
    ]
    threading.Thread(target=_complete_toolchain, args=(context, presence), daemon=True).start()
    reconciler.start()
    for task in periodic:
        task.start()
    context.converter.prewarm()
    try:
        queue.work(context.stopping)
    finally:
        reconciler.stop()
        if metrics is not None:
            metrics.close()
        for task in periodic:
            task.stop()
        webhooks.close()
        with suppress(*CONNECTION_ERRORS):
            presence.leave()
        context.converter.close()
        database.close()
    return 0


def _complete_toolchain(context: Context, presence: Presence) -> None:
    """Import frameworks that were not imported since their installation, while jobs already run."""
    if context.toolchain is None or context.toolchain.complete:
        return
    toolchain = find_toolchain(context.settings.home, importing=True)
    if toolchain is not None:
        with suppress(*CONNECTION_ERRORS):
            presence.set_toolchain(toolchain)
