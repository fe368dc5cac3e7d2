"""Request bodies, request ids and client addresses in RSGI, the interface of granian."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model_service.errors import BodyTimeout, FileTooLarge, IncompleteUpload, ModelServiceError
from model_service.serving.protocols import JSON as JSON
from model_service.serving.protocols import Answer

Headers = Sequence[tuple[str, str]]
_REQUEST_ID = "x-request-id"
_LINGER_S = 5.0
# How much of a refused body is read so that the connection can be reused, and for how long.
_DRAINED_BYTES = 64 * 1024
_DRAIN_S = 1.0
# A longer body is read in pieces, so that it uses memory only as it arrives.
_WHOLE_BYTES = 1 << 20
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class BodyLimits:
    """A body of at most ``most_bytes`` may take ``grace_s``, or longer if it arrives at ``least_rate``."""

    most_bytes: int
    grace_s: float
    least_rate: int

    def allowed_s(self, read_bytes: int, timeout_s: float) -> float:
        """Return how long a body may take of which ``read_bytes`` have arrived."""
        return min(timeout_s, max(self.grace_s, read_bytes / self.least_rate))


async def read_body(
    scope: Any, protocol: Any, limits: BodyLimits, timeout_s: float, take: Callable[[int], None]
) -> bytes:
    """Return the whole body.

    Args:
        take: called with a number of bytes before they are kept, once if the length is announced; if it
            raises, reading stops.

    Raises:
        FileTooLarge: it is larger than the limit.
        IncompleteUpload: the connection broke, or the body is shorter than announced.
        BodyTimeout: it takes too long to arrive.
    """
    length = scope.headers.get("content-length")
    try:
        if length is not None and int(length) > limits.most_bytes:
            raise FileTooLarge(limits.most_bytes, setting="MAX_INFERENCE_BODY")
        if length is None or int(length) > _WHOLE_BYTES:
            body = await _read_limited(protocol, limits, timeout_s, take)
            if length is not None and len(body) < int(length):
                raise IncompleteUpload(f"Only {len(body):,} of {int(length):,} announced bytes arrived.")
            return body
        take(int(length))
        async with asyncio.timeout(limits.allowed_s(int(length), timeout_s)):
            return bytes(await protocol())
    except TimeoutError:
        raise BodyTimeout(
            f"The body did not arrive within {timeout_s:g} s, or arrived more slowly than "
            f"{limits.least_rate:,} bytes a second (BODY_MIN_RATE) for {limits.grace_s:g} s."
        ) from None
    except ModelServiceError:
        raise
    except (
        Exception
    ) as exc:  # granian's errors of a broken connection or a wrong encoding have no common class
        raise IncompleteUpload(f"The connection broke during the body: {exc}.") from None


async def _read_limited(
    protocol: Any, limits: BodyLimits, timeout_s: float, take: Callable[[int], None]
) -> bytes:
    """Read a body in pieces. Raises TimeoutError, FileTooLarge, or the errors of ``take``."""
    pieces, read, arrived = _pieces(protocol), [], 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + limits.allowed_s(0, timeout_s)) as deadline:
            async for piece in pieces:
                arrived += len(piece)
                if arrived > limits.most_bytes:
                    raise FileTooLarge(limits.most_bytes, setting="MAX_INFERENCE_BODY")
                take(len(piece))
                read.append(piece)
                deadline.reschedule(began + limits.allowed_s(arrived, timeout_s))
    except ModelServiceError:
        read.clear()
        await linger(pieces)  # no other code can continue to read
        raise
    return b"".join(read)


async def _pieces(protocol: Any) -> AsyncIterator[bytes]:
    """Yield the pieces. Unlike granian's own iterator, this one can be used in two successive loops."""
    async for piece in protocol:
        yield piece


async def is_read(scope: Any, protocol: Any) -> bool:
    """Return whether a refused request's whole body is read, after reading what is available."""
    length = scope.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in scope.headers:
        return True
    try:
        protocol.__aiter__()
    except Exception:  # granian's own error: the body was read before
        return True
    left = int(length)
    if not 0 < left <= _DRAINED_BYTES or "expect" in scope.headers:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while left > 0 and (piece := await anext(protocol)):
                left -= len(piece)
    return left == 0


async def linger(pieces: AsyncIterator[bytes]) -> None:
    """Read the rest of a refused body for a while, and discard it, like nginx's ``lingering_close``.

    Otherwise the connection would be reset, and a client that is still sending would not get the response.
    """
    with contextlib.suppress(Exception):  # the body has ended, or the client is gone
        async with asyncio.timeout(_LINGER_S):
            while await anext(pieces):
                pass


def request_id(scope: Any) -> str:
    """Return the caller's id if it is valid, otherwise a new one."""
    sent = scope.headers.get(_REQUEST_ID)
    return sent if sent is not None and _VALID_ID.fullmatch(sent) else os.urandom(16).hex()


def client_address(scope: Any, proxies: int) -> str:
    """Return the client's address from the outermost trusted proxy; without proxies, the peer's address."""
    if proxies and (reported := scope.headers.get("x-forwarded-for")):
        addresses = reported.split(",")
        return str(addresses[-min(proxies, len(addresses))].strip())
    return str(scope.client.rpartition(":")[0].strip("[]"))


def send(protocol: Any, status: int, answer: Answer, request_id: str) -> None:
    headers = [("content-type", answer.content_type), (_REQUEST_ID, request_id), *answer.headers]
    protocol.response_bytes(status, headers, answer.body)
