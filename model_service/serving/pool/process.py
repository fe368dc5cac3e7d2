"""A process of the pool, ``python -m model_service.serving.pool.process``, started by its supervisor.

``supervisor.py`` describes the messages between the two.
"""

import argparse
import asyncio
import importlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from model_service.config import Settings, SettingsError, read_settings
from model_service.serving.common.freed_memory import keep_freed_memory
from model_service.serving.pool.busy import Busy, IdleTime, processors
from model_service.serving.pool.supervisor import STOP_S

_APPLICATION = "model_service.serving.http.application:make"
_REPORT_S = 0.5
_DRAIN_S = 3.0
_MOVE_S = 5.0  # how long clients are moved after the pool has grown
# The time for running requests: if the whole pool stops, and if only this process is removed.
_ANSWER_S = 2.5
_DRAINING_ANSWER_S = 30.0


class Application(Protocol):
    """The application that a process serves."""

    ready: threading.Event
    """Set once what was active at the start has been loaded, or given up."""

    async def rsgi(self, scope: Any, protocol: Any) -> None:
        """Answer one request."""
        ...

    def start(self) -> None:
        """Begin to load."""
        ...

    def stop(self) -> None:
        """Write pending data, within a few seconds."""
        ...

    def load(self) -> tuple[float, list[tuple[int, int, int, int]]]:
        """Return the load and the deployments' wishes.

        Returns:
            Seconds since the start in which a model ran, and (min_replicas, max_replicas, target utilisation
                in percent, initial_replicas) of each active deployment.
        """
        ...


class Control:
    """The socket to the supervisor, read by a thread of its own.

    An event loop that hangs must not keep a process alive whose supervisor is gone.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message. Errors are ignored: the reading thread notices that the supervisor is gone."""
        with self._lock:
            try:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                return

    def follow(
        self, obey: Callable[[dict[str, Any], socket.socket | None], None], *, lost: Callable[[], None]
    ) -> None:
        """Start the reading thread. It calls ``obey`` for each message, and ``lost`` at the supervisor's
        end.
        """
        threading.Thread(target=self._read, args=(obey, lost), name="control", daemon=True).start()

    def _read(
        self, obey: Callable[[dict[str, Any], socket.socket | None], None], lost: Callable[[], None]
    ) -> None:
        partial = b""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 1)
            except OSError:
                data, descriptors = b"", []
            if not data:
                break
            *lines, partial = (partial + data).split(b"\n")
            listener = socket.socket(fileno=descriptors[0]) if descriptors else None
            for line in lines:
                message = json.loads(line)
                obey(message, listener if message["do"] == "serve" else None)
        lost()
        time.sleep(STOP_S)
        os._exit(1)


class Process:
    """Serves from the supervisor's command until SIGTERM, a drain, or the supervisor's end."""

    def __init__(self, application: Application, control: Control, idle: IdleTime) -> None:
        # Imported late: the supervisor only waits for the settings.
        from model_service.serving.pool.clients import Clients

        self._application = application
        self._control = control
        self._clients = Clients(application.rsgi)
        self._busy = Busy(idle)
        self._drained = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        listener: asyncio.Future[socket.socket | None] = loop.create_future()

        def obey(message: dict[str, Any], given: socket.socket | None) -> None:
            match message["do"]:
                case "serve":
                    loop.call_soon_threadsafe(listener.set_result, given)
                case "share":
                    loop.call_soon_threadsafe(self._clients.ask, message["share"], _MOVE_S)
                case "drain":
                    loop.call_soon_threadsafe(self._clients.ask, 1.0, math.inf)
                    loop.call_soon_threadsafe(loop.call_later, _DRAIN_S, self._drained.set)

        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self._control.follow(obey, lost=lambda: _call(loop, stop.set))
        self._application.start()
        threading.Thread(target=self._tell_ready, name="ready", daemon=True).start()
        reports = asyncio.create_task(self._report())
        try:
            given = listener.result() if await _first(listener, stop.wait()) else None
            return await self._serve(given, stop) if given is not None else 0
        finally:
            reports.cancel()
            self._application.stop()

    async def _serve(self, listener: socket.socket, stop: asyncio.Event) -> int:
        from model_service.server import embedded

        server = embedded(self._clients, listener)
        serving = asyncio.create_task(server.serve())
        stopping, drained = (asyncio.create_task(event.wait()) for event in (stop, self._drained))
        await asyncio.wait([serving, stopping, drained], return_when=asyncio.FIRST_COMPLETED)
        failed = serving.done()
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait(
            [serving, stopping], timeout=_DRAINING_ANSWER_S, return_when=asyncio.FIRST_COMPLETED
        )
        await asyncio.wait([serving], timeout=_ANSWER_S)
        return 1 if failed else 0

    def _tell_ready(self) -> None:
        self._application.ready.wait()
        self._control.tell({"ready": True})

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            busy_s, wishes = self._application.load()
            report = {"utilization": self._busy.share(busy_s), "wishes": sorted(set(wishes))}
            self._control.tell(report)


async def _first(one: asyncio.Future[Any], other: Awaitable[Any]) -> bool:
    """Return whether ``one`` is done before ``other``."""
    waiting = asyncio.ensure_future(other)
    await asyncio.wait([one, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return one.done()


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # it has ended anyway
        return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model_service.serving.pool.process", description=__doc__)
    parser.add_argument("--index", type=int, required=True, help="the same for every process in its slot")
    parser.add_argument(
        "--control", type=int, required=True, help="file descriptor of the supervisor's socket"
    )
    parser.add_argument("--application", default=_APPLICATION, help="module:factory")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of the terminal: the supervisor decides
    keep_freed_memory()
    control = Control(arguments.control)
    try:
        settings = read_settings()
        application = _make(arguments.application, settings, arguments.index)
        from model_service.server import check_granian  # imports structlog: after _make

        check_granian()
        control.tell({"hello": _hello(settings)})
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    idle = IdleTime()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(idle)) as runner:
        return runner.run(Process(application, control, idle).run())


def _hello(settings: Settings) -> dict[str, Any]:
    return {
        "host": settings.inference_host,
        "port": settings.inference_port,
        "max_processes": settings.inference_max_processes or processors(),
    }


def _make(target: str, settings: Settings, index: int) -> Application:
    # structlog imports rich if it is installed, which takes an eighth of the start-up time, and 8 MB.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from model_service import tracing
    from model_service.log import configure_logging

    configure_logging(settings)
    tracing.start_exporting(settings, "inference")
    module, _, factory = target.partition(":")
    make: Callable[[Settings, int], Application] = getattr(importlib.import_module(module), factory)
    return make(settings, index)


if __name__ == "__main__":
    sys.exit(main())
