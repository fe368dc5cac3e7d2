"""``GET /metrics`` and the probes of a worker, on ``WORKER_METRICS_PORT``."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from model_service.config import Settings, SettingsError
from model_service.metrics import CONTENT_TYPE, exposition, fold_dead

_NOT_FOUND = b"This server has /metrics, /health/live and /health/ready.\n"


class MetricsEndpoint:
    """A server thread. The workers of a host share the port, and each returns the metrics of all of them.

    ``/health/live`` shows only that the process responds, since a restart would not repair MongoDB.
    ``/health/ready`` is 503 while ``is_ready`` returns False.
    """

    def __init__(self, settings: Settings, is_ready: Callable[[], bool]) -> None:
        """Listen on the port. Raises: SettingsError: another program uses it."""
        fold_dead()
        host, port = settings.host, settings.worker_metrics_port or 0
        try:
            self._server = make_server(
                host, port, self._answer, server_class=_SharedPort, handler_class=_Quiet
            )
        except OSError as exc:
            raise SettingsError(
                f"WORKER_METRICS_PORT={port} cannot be used on {host}: {exc.strerror}; choose another port"
            ) from None
        self._is_ready = is_ready
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, content_type = "200 OK", "application/json"
        match environ["PATH_INFO"].rstrip("/"):
            case "/metrics":
                content_type, body = CONTENT_TYPE, exposition()
            case "/health/live":
                body = _state("alive")
            case "/health/ready" if self._is_ready():
                body = _state("ready")
            case "/health/ready":
                status, body = "503 Service Unavailable", _state("unavailable")
            case _:
                status, content_type, body = "404 Not Found", "text/plain", _NOT_FOUND
        start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]


class _SharedPort(WSGIServer):
    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


class _Quiet(WSGIRequestHandler):
    timeout = 5  # seconds that an idle connection may delay the next scrape

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: scrapes are not worth a log entry."""


def _state(status: str) -> bytes:
    return json.dumps({"status": status, "service": "model-service"}).encode()
