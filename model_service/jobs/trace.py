"""The part of a trace that a job is, and the ids in its log lines."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from model_service import tracing
from model_service.jobs.converter import Event
from model_service.tracing.context import CURRENT

log = structlog.get_logger(__name__)

_STEPS = frozenset(
    {"load", "reference", "convert", "verify", "optimize", "measure", "validate", "package", "evaluate"}
)
# An export has about ten: each converter that is tried has a convert and a verify.
_MOST_STEPS = 100


@contextmanager
def continued(name: str, traceparent: str | None, **ids: str) -> Iterator[tracing.Span]:
    """Continue the trace of the request that created a job; without one, begin a trace.

    Args:
        ids: in all log lines of the job, beside ``trace_id``.
    """
    span = tracing.begin(name, traceparent, "consumer")
    token = CURRENT.set(span.context)
    try:
        with span, structlog.contextvars.bound_contextvars(trace_id=span.context.trace_id, **ids):
            span.note({f"model_service.{key.replace('_', '.')}": value for key, value in ids.items()})
            yield span
    finally:
        CURRENT.reset(token)


def step_recorder(converter_pid: int) -> Callable[[Event], None]:
    """Return a function that logs and records a converter's ``step`` events, as parts of the current span.

    The converter reads untrusted files, so its events are not trusted. Malformed events, unknown steps and
    all after the first hundred are ignored, and no step begins before this call or ends in the future.
    """
    parent, since_ns, left = tracing.current(), time.time_ns(), _MOST_STEPS

    def record(event: Event) -> None:
        nonlocal left
        step, began_ns, seconds = (event.get(name) for name in ("step", "began_ns", "seconds"))
        if not (isinstance(step, str) and isinstance(began_ns, int) and isinstance(seconds, float)):
            return
        if step not in _STEPS or not left:
            return
        left -= 1
        now_ns = time.time_ns()
        began_ns = min(max(began_ns, since_ns), now_ns)
        seconds = min(seconds, (now_ns - began_ns) / 1e9) if math.isfinite(seconds) and seconds > 0 else 0.0
        failed = event.get("failed") is True
        log.info(
            "converter.step", step=step, seconds=round(seconds, 3), failed=failed, converter_pid=converter_pid
        )
        tracing.record(
            step,
            parent,
            began_ns,
            seconds,
            {"process.pid": converter_pid},
            service="converter",
            error="failed" if failed else None,
        )

    return record
