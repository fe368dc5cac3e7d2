"""``GET /metrics`` for the workers of this host, on ``WORKER_METRICS_PORT``."""

import socket
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from model_service.config import Settings, SettingsError
from model_service.metrics import CONTENT_TYPE, exposition, fold_dead


class MetricsEndpoint:
    """A server thread. The workers of a host share the port, and each returns the metrics of all of them."""

    def __init__(self, settings: Settings) -> None:
        """Listen on the port. Raises: SettingsError: another program uses it."""
        fold_dead()
        host, port = settings.host, settings.worker_metrics_port or 0
        try:
            self._server = make_server(host, port, _answer, server_class=_SharedPort, handler_class=_Quiet)
        except OSError as exc:
            raise SettingsError(
                f"WORKER_METRICS_PORT={port} cannot be used on {host}: {exc.strerror}; choose another port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


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


def _answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    if environ["PATH_INFO"].rstrip("/") != "/metrics":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"This server has /metrics alone.\n"]
    body = exposition()
    start_response("200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))])
    return [body]
