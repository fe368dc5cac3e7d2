"""Checks before a server starts that it can listen on an address."""

import errno
import socket
import time

BACKLOG = 2048  # number of connections that wait in the kernel until a server accepts them


def require_free(host: str, port: int, *, patience_s: float = 0.0) -> None:
    """Bind to the address briefly. ``patience_s``: how long to wait for a previous server to end.

    Otherwise two servers with SO_REUSEPORT, which our servers use, could share a port unnoticed.

    Raises:
        OSError: another program listens there, or the address is not of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # Like the servers: TIME_WAIT connections of an earlier run do not make the port "in use".
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)


def explain(exc: OSError) -> str:
    """Return why the port cannot be listened on, and what to do, as the end of a sentence with the port."""
    if exc.errno == errno.EADDRINUSE:
        return "is in use. Stop the program that uses it, or choose another one"
    return f"cannot be used ({exc.strerror or exc}). Choose another one"
