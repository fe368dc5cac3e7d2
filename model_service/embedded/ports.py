"""Ports: a free one that stays the same from run to run, and whether one can be listened on."""

import errno
import random
import socket
from pathlib import Path

from model_service.embedded.errors import PortInUse

# Below every system's ephemeral range (Linux: from 32768). A port inside it could be taken by any outgoing
# connection while its server restarts, even by a client that connects to itself.
_FIRST, _LAST = 20_000, 31_999


def remembered_port(file: Path) -> int:
    """The loopback port noted in ``file`` if it is still free, else another one, which is noted."""
    if file.exists():
        noted = file.read_text().strip()
        if noted.isdecimal() and int(noted) in range(_FIRST, _LAST + 1) and _is_free(int(noted)):
            return int(noted)
    candidates = random.sample(range(_FIRST, _LAST + 1), 200)
    port = next((port for port in candidates if _is_free(port)), None)
    if port is None:
        raise PortInUse(f"No free port between {_FIRST} and {_LAST} on 127.0.0.1.")
    file.write_text(f"{port}\n")
    return port


def require_port(host: str, port: int, flag: str) -> None:
    """Raises PortInUse: nothing can listen on ``host:port``; the message names ``flag``, which changes it."""
    try:
        _bind(host, port)
    except OSError as exc:
        taken = exc.errno == errno.EADDRINUSE
        reason = "is in use" if taken else f"cannot be used ({exc.strerror or exc})"
        remedy = "Stop what listens there, or choose" if taken else "Choose"
        raise PortInUse(f"Port {port} on {host} {reason}. {remedy} another one with {flag}.") from None


def _is_free(port: int) -> bool:
    try:
        _bind("127.0.0.1", port)
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as sock:
        # As the servers do: connections of a former run in TIME_WAIT do not make the port "in use".
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
