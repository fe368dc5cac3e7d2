"""Whether a server can listen on an address, tried before it starts."""

import errno
import socket
import time

BACKLOG = 2048  # connections that wait in the kernel until a server accepts them


def require_free(host: str, port: int, *, patience_s: float = 0.0) -> None:
    """Bind to the address for a moment. ``patience_s`` is for a former server that is about to end.

    With SO_REUSEPORT, which our servers use, two of them would share a port without noticing.

    Raises:
        OSError: something listens there, or the address is not of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As the servers do: connections of a former run in TIME_WAIT do not make the port "in use".
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)


def explain(exc: OSError) -> str:
    """Why it cannot be listened on, and what to do, as the end of a sentence that names the port."""
    if exc.errno == errno.EADDRINUSE:
        return "is in use. Stop what listens there, or choose another one"
    return f"cannot be used ({exc.strerror or exc}). Choose another one"
