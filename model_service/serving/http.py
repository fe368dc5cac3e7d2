"""RSGI, as granian calls it: bodies in, answers out."""

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Any

from model_service.errors import FileTooLarge, IncompleteUpload, InvalidRequest
from model_service.serving.protocols import JSON as JSON
from model_service.serving.protocols import Answer

Headers = Sequence[tuple[str, str]]
_REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BodyTimeout(InvalidRequest):
    code = "body_timeout"
    status = 408


def announced(scope: Any, limit_bytes: int) -> int:
    """The bytes that a body will have; of one that does not say so, the most that it may have.

    Raises:
        FileTooLarge: more than the limit.
    """
    length = scope.headers.get("content-length")
    if length is None or not length.isdecimal():
        return limit_bytes
    if int(length) > limit_bytes:
        raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
    return int(length)


async def read_body(scope: Any, protocol: Any, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body.

    Raises:
        FileTooLarge: it is larger.
        IncompleteUpload: the connection broke, or the body is shorter than announced.
        BodyTimeout: it takes too long to arrive.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if "content-length" in scope.headers:
                return bytes(await protocol())
            return await _read_limited(protocol, limit_bytes)
    except TimeoutError:
        raise BodyTimeout(f"The body did not arrive within {timeout_s:g} s.") from None
    except FileTooLarge:
        raise
    except (
        Exception
    ) as exc:  # granian's errors of a broken connection or a wrong encoding have no common class
        raise IncompleteUpload(f"The body broke off: {exc}.") from None


async def _read_limited(protocol: Any, limit_bytes: int) -> bytes:
    pieces = []
    left = limit_bytes
    async for piece in protocol:
        left -= len(piece)
        if left < 0:
            raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
        pieces.append(piece)
    return b"".join(pieces)


def request_id(scope: Any) -> str:
    """The caller's where it sent a sane one."""
    sent = scope.headers.get(_REQUEST_ID)
    return sent if sent is not None and _SANE_ID.fullmatch(sent) else os.urandom(16).hex()


def send(protocol: Any, status: int, answer: Answer, request_id: str) -> None:
    headers = [("content-type", answer.content_type), (_REQUEST_ID, request_id), *answer.headers]
    protocol.response_bytes(status, headers, answer.body)
