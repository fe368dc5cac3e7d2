"""Ports: choose a free one and keep it between runs; check that one can be listened on."""

import random
from pathlib import Path

from model_service.embedded.errors import PortInUse
from model_service.listening import explain, require_free

# Below the ephemeral range of every system (Linux: from 32768). Outgoing connections could take a port inside
# it while its server restarts, even a connection of a client to itself.
_FIRST, _LAST = 20_000, 31_999


def remembered_port(file: Path) -> int:
    """Return the loopback port stored in ``file`` if it is still free, otherwise store another one."""
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
    """Check that ``host:port`` is free. Raises PortInUse: the message names ``flag``, which sets the port."""
    try:
        require_free(host, port)
    except OSError as exc:
        raise PortInUse(f"Port {port} on {host} {explain(exc)} with {flag}.") from None


def _is_free(port: int) -> bool:
    try:
        require_free("127.0.0.1", port)
    except OSError:
        return False
    return True
