"""Traces: which request a log line, a job and a span belong to.

Every request and job has a trace id, in its log lines. Spans are recorded only after ``start_exporting``;
until then no module of OpenTelemetry is imported, and ``span`` costs a comparison.
"""

from model_service.tracing.context import TraceContext, current, parse
from model_service.tracing.spans import (
    NOTHING,
    Attributes,
    Span,
    begin,
    check,
    is_exporting,
    record,
    span,
    start_exporting,
    streamed,
)

__all__ = [
    "NOTHING",
    "Attributes",
    "Span",
    "TraceContext",
    "begin",
    "check",
    "current",
    "is_exporting",
    "parse",
    "record",
    "span",
    "start_exporting",
    "streamed",
]
