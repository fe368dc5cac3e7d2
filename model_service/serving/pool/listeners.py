"""The sockets that share the inference server's port, one per process of the pool (SO_REUSEPORT).

The supervisor holds all of them and passes them to the processes. A socket outlives its process: new
connections wait in it for the next process, and none is refused.
"""

import array
import contextlib
import socket
import struct
from typing import Any

from model_service.listening import BACKLOG, explain, require_free

_PATIENCE_S = 5.0  # for a previous server on the port that is about to end
# Linux: asm-generic/socket.h, linux/filter.h
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_RANDOM
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_RETURN = (0x16, 0, 0, 0)  # BPF_RET | BPF_A


class PortTaken(Exception):
    """Another program listens on the port, or the address is not of this machine."""


class Listeners:
    """The open sockets; none at first. Raises PortTaken."""

    def __init__(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._family = found[0][0]
            self._address: Any = found[0][4]  # its form depends on the family
            require_free(host, port, patience_s=_PATIENCE_S)
        except OSError as exc:
            raise PortTaken(f"INFERENCE_HOST={host} INFERENCE_PORT={port} {explain(exc)}.") from None
        # In the kernel's order: the order in which they began to listen.
        self._open: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._open)

    def last_of(self, candidates: list[socket.socket]) -> socket.socket:
        """Return the newest of the candidates, the one that the kernel can exclude."""
        return max(candidates, key=self._open.index)

    def open(self) -> socket.socket:
        """Open another socket; the kernel gives it its share of new connections from now on."""
        listener = socket.socket(self._family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(self._address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._open.append(listener)
        return listener

    def close(self, listener: socket.socket) -> None:
        """Close a socket. Connections that wait in it are reset once no process has it open either."""
        index = self._open.index(listener)
        self._open[index] = self._open[-1]  # as reuseport_detach_sock does
        self._open.pop()
        listener.close()

    def route_to(self, count: int) -> None:
        """Route new connections, at random, to the first ``count`` sockets only.

        An older kernel refuses this; then connections that arrive at the moment in which a process is removed
        are reset.
        """
        program = b"".join(
            struct.pack("HBBI", *step) for step in (_LOAD_RANDOM, (_MODULO, 0, 0, count), _RETURN)
        )
        buffer = array.array("B", program)
        filter_ = struct.pack("HP", 3, buffer.buffer_info()[0])
        with contextlib.suppress(OSError):
            self._open[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, filter_)

    def route_to_all(self) -> None:
        with contextlib.suppress(OSError):
            self._open[0].setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)

    def close_all(self) -> None:
        while self._open:
            self._open.pop().close()
