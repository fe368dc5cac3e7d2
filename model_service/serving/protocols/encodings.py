"""Content-Encoding of requests and answers: gzip, and deflate, which is zlib's format (RFC 9110, 8.4)."""

from __future__ import annotations

import re
import zlib

from model_service.errors import FileTooLarge, InvalidRequest, UnsupportedOption
from model_service.serving.protocols import Answer

# Of zlib: 15 bits of window, and 16 more for gzip's frame instead of zlib's.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_SUPPORTED = ["gzip", "deflate", "identity"]
# Below that a packet is a packet, and packing costs more than it saves.
_WORTH_PACKING_BYTES = 1024
# Tensors hardly shrink; more effort would only keep others waiting.
_LEVEL = 1
_REFUSED = re.compile(r"\s*;\s*q=0(\.0*)?\s*$")


def unpack(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was before its Content-Encoding. No more than the limit is ever unpacked.

    Raises:
        UnsupportedOption: another encoding.
        FileTooLarge: it unpacks to more than the limit.
        InvalidRequest: it is cut short, or no such data.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOWS:
        raise UnsupportedOption(
            f"The Content-Encoding {name[:40]!r} is not supported.",
            allowed=_SUPPORTED,
            option="Content-Encoding",
        )
    stream = zlib.decompressobj(_WINDOWS[name])
    try:
        content = stream.decompress(body, limit_bytes + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"The body is no {name} data: {exc}.") from None
    if len(content) > limit_bytes:
        raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
    if not stream.eof or stream.unused_data:
        raise InvalidRequest(f"The body is not one whole stream of {name} data.")
    return content


def choose(accepted: str) -> str | None:
    """The encoding of an answer to this Accept-Encoding: the first that is known and not refused."""
    for one in accepted.lower().split(","):
        name, _, rest = one.partition(";")
        if name.strip() in ("gzip", "deflate") and not _REFUSED.match(f";{rest}"):
            return name.strip()
    return None


def packed(answer: Answer, accepted: str | None) -> Answer:
    """The answer as this Accept-Encoding wants it, where that is worth it."""
    if not accepted or len(answer.body) < _WORTH_PACKING_BYTES or not (encoding := choose(accepted)):
        return answer
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOWS[encoding])
    body = stream.compress(answer.body) + stream.flush()
    return Answer(answer.content_type, [*answer.headers, ("content-encoding", encoding)], body)
