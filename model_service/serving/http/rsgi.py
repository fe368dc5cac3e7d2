"""RSGI, as granian calls it: bodies in, answers out."""

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
# How much of a refused body is read, so that the connection can be used again, and for how long.
_DRAINED_BYTES = 64 * 1024
_DRAIN_S = 1.0
# A longer one is read in pieces, so that it takes memory only as it arrives.
_WHOLE_BYTES = 1 << 20
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class BodyLimits:
    """A body of at most ``most_bytes`` may take ``grace_s``, and longer while it comes at ``least_rate``."""

    most_bytes: int
    grace_s: float
    least_rate: int

    def allowed_s(self, read_bytes: int, timeout_s: float) -> float:
        """How long a body may take of which so many bytes are there."""
        return min(timeout_s, max(self.grace_s, read_bytes / self.least_rate))


async def read_body(
    scope: Any, protocol: Any, limits: BodyLimits, timeout_s: float, take: Callable[[int], None]
) -> bytes:
    """The whole body.

    Args:
        take: is told of bytes before they are kept, of all at once where a length is announced; what it
            raises ends the reading.

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
                raise IncompleteUpload(f"{len(body):,} of {int(length):,} announced bytes arrived.")
            return body
        take(int(length))
        async with asyncio.timeout(limits.allowed_s(int(length), timeout_s)):
            return bytes(await protocol())
    except TimeoutError:
        raise BodyTimeout(
            f"The body did not arrive within {timeout_s:g} s, or came slower than {limits.least_rate:,} "
            f"bytes a second (BODY_MIN_RATE) over {limits.grace_s:g} s."
        ) from None
    except ModelServiceError:
        raise
    except (
        Exception
    ) as exc:  # granian's errors of a broken connection or a wrong encoding have no common class
        raise IncompleteUpload(f"The body broke off: {exc}.") from None


async def _read_limited(
    protocol: Any, limits: BodyLimits, timeout_s: float, take: Callable[[int], None]
) -> bytes:
    """Raises: TimeoutError, FileTooLarge, or what ``take`` raises."""
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
        await linger(pieces)  # nobody else can read on
        raise
    return b"".join(read)


async def _pieces(protocol: Any) -> AsyncIterator[bytes]:
    """To be gone through in two loops, one after the other, which granian's own iterator does not allow."""
    async for piece in protocol:
        yield piece


async def is_read(scope: Any, protocol: Any) -> bool:
    """Whether a refused request's whole body is read, after what can be read of it at once."""
    length = scope.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in scope.headers:
        return True
    try:
        protocol.__aiter__()
    except Exception:  # granian's own: the body was asked for before
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
    """Read the rest of a body that is refused, for a while, and forget it, as nginx's ``lingering_close``.

    The connection would be reset: who still sends would find that instead of the answer.
    """
    with contextlib.suppress(Exception):  # there is nothing left, or nobody
        async with asyncio.timeout(_LINGER_S):
            while await anext(pieces):
                pass


def request_id(scope: Any) -> str:
    """The caller's where it sent a sane one."""
    sent = scope.headers.get(_REQUEST_ID)
    return sent if sent is not None and _SANE_ID.fullmatch(sent) else os.urandom(16).hex()


def client_address(scope: Any, proxies: int) -> str:
    """The client's, as the outermost of that many trusted proxies reports it; without proxies, the peer's."""
    if proxies and (reported := scope.headers.get("x-forwarded-for")):
        addresses = reported.split(",")
        return str(addresses[-min(proxies, len(addresses))].strip())
    return str(scope.client.rpartition(":")[0].strip("[]"))


def send(protocol: Any, status: int, answer: Answer, request_id: str) -> None:
    headers = [("content-type", answer.content_type), (_REQUEST_ID, request_id), *answer.headers]
    protocol.response_bytes(status, headers, answer.body)
