"""Move clients to other processes: a keep-alive connection never moves by itself."""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

Rsgi = Callable[[Any, Any], Awaitable[None]]
_CLOSE = ("connection", "close")
_MOST_CLIENTS = 10_000


class Clients:
    """The application, which on request adds ``Connection: close`` to the responses of some clients.

    These clients then connect again, and the kernel chooses a process for each.
    """

    def __init__(self, application: Rsgi) -> None:
        self._application = application
        self._share = 0.0
        self._until = 0.0
        self._moves: dict[str, bool] = {}  # by address and port: decided once per client

    def ask(self, share: float, seconds: float) -> None:
        """For the next ``seconds``, make this share of the clients connect again."""
        self._share = share
        self._until = time.monotonic() + seconds
        self._moves.clear()

    def __call__(self, scope: Any, protocol: Any) -> Awaitable[None]:
        if self._share and self._is_to_move(scope.client):
            protocol = _Closing(protocol)
        return self._application(scope, protocol)

    def _is_to_move(self, client: str) -> bool:
        if time.monotonic() > self._until or len(self._moves) > _MOST_CLIENTS:
            self._share = 0.0
            return False
        return self._moves.setdefault(client, random.random() < self._share)  # noqa: S311 - no secret


class _Closing:
    """RSGI's protocol object of one request, whose response closes the connection."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def __call__(self) -> Any:
        return self._protocol()

    def __aiter__(self) -> Any:
        return self._protocol.__aiter__()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._protocol, name)
        if not name.startswith("response_"):
            return attribute
        return lambda status, headers, *rest: attribute(status, [*headers, _CLOSE], *rest)
