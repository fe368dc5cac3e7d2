"""Content-Encoding of requests and responses: gzip, and deflate, zlib's format (RFC 9110, 8.4)."""

from __future__ import annotations

import re
import zlib

from model_service.errors import FileTooLarge, InvalidRequest, UnsupportedOption
from model_service.serving.protocols import Answer

# The parameter of zlib: 15 bits of window, plus 16 for gzip's header instead of zlib's.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_SUPPORTED = ["gzip", "deflate", "identity"]
# Compressing a smaller body costs more than it saves: it fits into one packet.
_WORTH_PACKING_BYTES = 1024
# Tensors compress badly; a higher level would only delay other requests.
_LEVEL = 1
_REFUSED = re.compile(r"\s*;\s*q=0(\.0*)?\s*$")


def unpack(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Return the body without its Content-Encoding. At most the limit is decompressed.

    Raises:
        UnsupportedOption: another encoding.
        FileTooLarge: it decompresses to more than the limit.
        InvalidRequest: the data is truncated, or not in that encoding.
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
        raise InvalidRequest(f"The body is not {name} data: {exc}.") from None
    if len(content) > limit_bytes:
        raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
    if not stream.eof or stream.unused_data:
        raise InvalidRequest(f"The body is not one complete stream of {name} data.")
    return content


def choose(accepted: str) -> str | None:
    """Return the encoding for an Accept-Encoding header: the first that is known and not refused."""
    for one in accepted.lower().split(","):
        name, _, rest = one.partition(";")
        if name.strip() in ("gzip", "deflate") and not _REFUSED.match(f";{rest}"):
            return name.strip()
    return None


def packed(answer: Answer, accepted: str | None) -> Answer:
    """Return the response, compressed according to Accept-Encoding if it is large enough."""
    if not accepted or len(answer.body) < _WORTH_PACKING_BYTES or not (encoding := choose(accepted)):
        return answer
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOWS[encoding])
    body = stream.compress(answer.body) + stream.flush()
    return Answer(answer.content_type, [*answer.headers, ("content-encoding", encoding)], body)
