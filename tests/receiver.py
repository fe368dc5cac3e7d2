"""An HTTP server that receives the events of webhooks, as a receiver of a user does."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from model_service.config import Settings
from model_service.jobs.webhooks import WebhookDelivery
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Listens on a port of 127.0.0.1, which stays the same while it is stopped. Keeps what it answered.

    ``status_of`` returns the status of the response to a request.
    """

    status_of: Callable[[Received], int] = lambda received: 204
    received: list[Received] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events?from=models"

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received = Received({name.lower(): value for name, value in self.headers.items()}, body)
                status = receiver.status_of(received)
                receiver.received.append(received)
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> "Receiver":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def delivering(settings: Settings) -> Iterator[WebhookDelivery]:
    """What a worker does for webhooks, in a thread of this process."""
    database = Database(settings)
    delivery, stop = WebhookDelivery(settings, build_stores(database)), threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            delivery.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield delivery
    finally:
        stop.set()
        thread.join()
        delivery.close()
        database.close()
