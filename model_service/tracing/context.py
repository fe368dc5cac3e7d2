"""W3C Trace Context: the header ``traceparent``, and the position in a trace of the running code.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

import os
import re
from contextvars import ContextVar
from typing import NamedTuple

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class TraceContext(NamedTuple):
    """A position in a trace. The ids are lower-case hexadecimal, of 16 and 8 bytes.

    ``sampled``: whether the caller may have recorded it.
    """

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def parse(traceparent: str | None) -> TraceContext | None:
    """Return the context in a header; None if it is missing or malformed, so that a new trace begins."""
    match = _FORM.fullmatch(traceparent.strip(" \t")) if traceparent else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    # Later versions may append fields; ff is forbidden, and so are ids of zeros.
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def new() -> TraceContext:
    """Begin a trace that is not recorded."""
    digits = os.urandom(24).hex()
    return TraceContext(digits[:32], digits[32:], sampled=False)


CURRENT: ContextVar[TraceContext | None] = ContextVar("trace context", default=None)


def current() -> TraceContext | None:
    """Return the position of the request or job that is running; None in background work."""
    return CURRENT.get()
