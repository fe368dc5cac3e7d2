"""granian, with the options that both of our HTTP servers use."""

import inspect
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from granian import Granian
from granian import __version__ as granian_version
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server import mp
from granian.server.embed import Server

from model_service.config import SettingsError
from model_service.listening import BACKLOG

log = structlog.get_logger(__name__)

# A connection without a request costs a file descriptor and some kilobytes, but no thread. A process with so
# many accepts no other until one ends; the kernel lets BACKLOG more wait.
_MOST_CONNECTIONS = 16_384
_OTHER_FILES = 512
MOST_OPEN_FILES = _MOST_CONNECTIONS + _OTHER_FILES
# Timeout of a request's header, from the connection's start or the previous response: longer idle connections
# are closed. HTTP/1 only, since granian has no timeout for the first byte, which shows whether it is HTTP/2.
_PROTOCOL: Any = {"http": HTTPModes.http1, "http1_settings": HTTP1Settings(header_read_timeout=5000)}
# Its log lines are propagated like all others; its own format is for terminals.
_LOGGERS = {"loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}}}


def most_connections() -> int:
    """Return the maximum number of connections of a process, after raising its limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    open_files = MOST_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(open_files - _OTHER_FILES, _MOST_CONNECTIONS))


def check_granian() -> None:
    """Check that the installed granian has and uses the private names that this module replaces.

    Raises:
        SettingsError: it does not, so slow bodies would block other requests, or the port would differ.
    """
    wrap = getattr(mp, "_wsgi_call_wrap", None)
    parameters = list(inspect.signature(wrap).parameters) if wrap else []
    is_known = (
        Granian is mp.MPServer
        and parameters == ["callback", "scope_opts", "access_log_fmt"]
        and "_wsgi_call_wrap" in _names(Granian, "_spawn_wsgi_worker")
        and {"_shd", "_ssp"} <= _names(Server, "_init_shared_socket") & _names(Server, "_spawn_worker")
    )
    if not is_known:
        raise SettingsError(
            f"granian {granian_version} is not the release that this version is tested with. "
            "Install that one: pip install 'model-service[server]'"
        )


def _names(owner: type, method: str) -> set[str]:
    """Return the names that the method's code refers to; empty if the class has no such method."""
    code = getattr(inspect.unwrap(getattr(owner, method, None)), "__code__", None)  # type: ignore[arg-type]
    return set(code.co_names) if code else set()


def call_through(make: Callable[[Any], Any]) -> None:
    """Wrap granian's call of the WSGI application, in a granian process before it loads the application.

    Args:
        make: receives granian's function of a protocol and an environ, and returns the replacement. The
            protocol, which WSGI applications cannot access, can send a response while another thread reads
            the body.
    """
    wrap = mp._wsgi_call_wrap  # type: ignore[attr-defined]
    mp._wsgi_call_wrap = lambda *arguments: make(wrap(*arguments))  # type: ignore[attr-defined]


def serve(target: str, *, host: str, port: int, workers: int, threads: int) -> None:
    """Serve the WSGI application that ``target`` (``module:factory``) creates, until SIGTERM or SIGINT.

    granian slows down a client that sends faster than we read or reads slower than we send. The handler keeps
    one of the ``threads`` for all that time.
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
        backlog=BACKLOG,
        backpressure=most_connections(),
        respawn_failed_workers=True,
        respawn_interval=0.5,
        websockets=False,
        **_PROTOCOL,
        log_access=False,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGERS,
        workers_kill_timeout=5,
    ).serve()


class _OnSocket(Server):
    """granian's server for a running event loop, on a socket that listens already."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        super().__init__(backlog=BACKLOG, backpressure=most_connections(), **options)
        self._given: Any = SocketHolder(listener.detach(), False, BACKLOG)  # type: ignore[call-arg]

    def _init_shared_socket(self) -> None:
        self._shd = self._given
        self._ssp = None


def embedded(application: Callable[[Any, Any], Awaitable[None]], listener: socket.socket) -> Server:
    """Return a server for the RSGI ``application`` in this process.

    Await its ``serve()``; ``stop()`` lets running requests end.
    """
    return _OnSocket(
        listener,
        target=application,
        interface=Interfaces.RSGI,
        websockets=False,
        **_PROTOCOL,
        log_access=False,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGERS,
    )
