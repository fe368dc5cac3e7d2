"""granian, as both of our HTTP servers run it."""

import os
import tempfile

import structlog
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

log = structlog.get_logger(__name__)

# Its lines go the way of all others; its own form of them is for a terminal.
_LOGGERS = {"loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}}}


def serve(target: str, *, host: str, port: int, workers: int, threads: int) -> None:
    """Serve the WSGI application that ``target`` (``module:factory``) makes, until SIGTERM or SIGINT.

    granian holds back whoever sends faster than we read, or reads slower than we send; a handler keeps one
    of the ``threads`` all that time.
    """
    log.info("server.starting", address=f"{host}:{port}", processes=workers, threads=threads)
    with tempfile.TemporaryDirectory(prefix="model-service-metrics-") as metrics:
        if workers > 1:  # they count together, in files
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        Granian(
            target,
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            factory=True,
            workers=workers,
            blocking_threads=threads,
            respawn_failed_workers=True,
            respawn_interval=0.5,
            websockets=False,
            log_access=False,
            log_level=LogLevels.error,
            log_dictconfig=_LOGGERS,
            workers_kill_timeout=5,
        ).serve()
