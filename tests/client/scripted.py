"""A real HTTP server that behaves as badly as a test asks: what the service itself cannot be made to show."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import wait_for


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int = 0


Step = Callable[[BaseHTTPRequestHandler, Request], None]


@dataclass
class Scripted:
    """``steps`` answer one request each, the last all that follow. Before ``listen`` every try is refused."""

    url: str
    listen: Callable[[], None]
    steps: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def wait_for_requests(self, count: int, deadline_s: float = 30) -> None:
        wait_for(lambda: len(self.requests) >= count, f"{count} requests", deadline_s=deadline_s)


def answers(status: int, body: bytes = b"{}", **headers: str) -> Step:
    def step(handler: BaseHTTPRequestHandler, request: Request) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return step


def hangs_up(handler: BaseHTTPRequestHandler, request: Request) -> None:
    handler.close_connection = True


def serves(
    content: bytes, *, cut_at: int | None = None, ranges: bool = True, announced: bytes | None = None
) -> Step:
    """The file ``content``, as far as byte ``cut_at``; ``announced`` is the file that its checksum is of."""

    def step(handler: BaseHTTPRequestHandler, request: Request) -> None:
        digest = sha256(content if announced is None else announced).hexdigest()
        start = 0
        if ranges and request.headers.get("if-range") == f'"{digest}"':
            start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("ETag", f'"{digest}"')
        handler.send_header("X-File-Checksum", f"sha256:{digest}")
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start:cut_at])
        if cut_at is not None:
            handler.close_connection = True

    return step


@contextmanager
def scripted() -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body, self.client_address[1])
            script.requests.append(request)
            step = script.steps[min(len(script.requests), len(script.steps)) - 1]
            step(self, request)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False) as server:
        server.server_bind()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})

        def listen() -> None:
            server.server_activate()
            thread.start()

        script = Scripted(f"http://127.0.0.1:{server.server_address[1]}", listen)
        try:
            yield script
        finally:
            if thread.ident is not None:
                server.shutdown()
                thread.join()
