"""A reverse proxy under a path, as nginx's ``location /PREFIX/ { proxy_pass http://SERVICE/; }``."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "host", "keep-alive"})


@dataclass
class Proxy:
    """``url``: its address for clients. ``target``: the service's address, set before the first request."""

    url: str
    target: str = ""


@contextmanager
def reverse_proxy(prefix: str, *, tells: bool) -> Iterator[Proxy]:
    """A running proxy that takes ``prefix`` from each path.

    Args:
        tells: whether it sends X-Forwarded-For, -Host, -Proto and -Prefix; the service sees no other trace of
            the address that the client used.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            self._forward(self.path.removeprefix(prefix))

        def _forward(self, path: str) -> None:
            sent = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            if tells:
                sent |= {
                    "X-Forwarded-For": self.client_address[0],
                    "X-Forwarded-Host": self.headers["Host"],
                    "X-Forwarded-Proto": "http",
                    "X-Forwarded-Prefix": prefix,
                }
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service = urlsplit(proxy.target)
            connection = http.client.HTTPConnection(service.hostname or "", service.port, timeout=60)
            try:
                connection.request(self.command, path, body=body or None, headers=sent)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}{prefix}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
