"""granian, as both of our HTTP servers run it."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server

log = structlog.get_logger(__name__)

# Its lines go the way of all others; its own form of them is for a terminal.
_LOGGERS = {"loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}}}


def serve(target: str, *, host: str, port: int, workers: int, threads: int) -> None:
    """Serve the WSGI application that ``target`` (``module:factory``) makes, until SIGTERM or SIGINT.

    granian holds back whoever sends faster than we read, or reads slower than we send; a handler keeps one
    of the ``threads`` all that time.
    """
    log.info("server.starting", address=f"{host}:{port}", processes=workers, threads=threads)
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


class _OnSocket(Server):
    """granian's server for a loop that runs already, on a socket that listens already."""

    def __init__(self, listener: socket.socket, backlog: int, **options: Any) -> None:
        super().__init__(**options)
        self._given: Any = SocketHolder(listener.detach(), False, backlog)  # type: ignore[call-arg]

    def _init_shared_socket(self) -> None:
        self._shd = self._given
        self._ssp = None


def embedded(
    application: Callable[[Any, Any], Awaitable[None]], listener: socket.socket, backlog: int
) -> Server:
    """For the RSGI ``application`` in this process: await its ``serve()``; ``stop()`` lets requests end."""
    return _OnSocket(
        listener,
        backlog,
        target=application,
        interface=Interfaces.RSGI,
        websockets=False,
        log_access=False,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGERS,
    )
