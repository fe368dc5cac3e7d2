"""Spans: what a request or job did, and how long it took.

A span belongs to a request or job: background work, such as the sweep, records none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from model_service.config import Settings, SettingsError
from model_service.tracing.context import CURRENT, TraceContext, current, new, parse

if TYPE_CHECKING:
    from opentelemetry.trace import Span as Recorded

    from model_service.tracing.exporter import Exporter

T = TypeVar("T")
Attributes = Mapping[str, str | int | float | bool | list[str]]
Kind = Literal["internal", "server", "client", "consumer"]

_exporter: Exporter | None = None


def check(settings: Settings) -> None:
    """Check the settings of OpenTelemetry, without starting a thread.

    Raises:
        SettingsError: OTEL_EXPORTER_OTLP_ENDPOINT is set, and the extra ``traces`` is not installed or
            another variable of OpenTelemetry is wrong.
    """
    if settings.exports_traces:
        _exporter_class().check(settings)
    else:
        _keep_out()


def start_exporting(settings: Settings, service: str) -> None:
    """Record spans of this process from now on, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    It starts a thread, so it is called in the process that does the work, after a fork. At the end of the
    process, waiting spans are sent, for at most two seconds.

    Raises: as ``check``.
    """
    global _exporter
    if settings.exports_traces:
        _exporter = _exporter_class()(settings, service)
    else:
        _keep_out()


def is_exporting() -> bool:
    return _exporter is not None


def _keep_out() -> None:
    """Let nothing import OpenTelemetry. The Redis client does wherever it is installed, in 0.1 s."""
    sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]


def _exporter_class() -> type[Exporter]:
    try:
        from model_service.tracing.exporter import Exporter
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs packages of OpenTelemetry that are not installed: "
            "pip install 'model-service[traces]'"
        ) from None
    return Exporter


class Span:
    """A span, which ends with its ``with`` block or by ``end``. If it is not recorded, nothing happens.

    ``context``: its position in the trace.
    """

    __slots__ = ("_recorded", "context")

    def __init__(self, context: TraceContext, recorded: Recorded | None = None) -> None:
        self.context = context
        self._recorded = recorded

    @property
    def is_recorded(self) -> bool:
        return self._recorded is not None

    def child(self, name: str, attributes: Attributes | None = None) -> Span:
        if self._recorded is None or _exporter is None:
            return self
        return _exporter.start(name, self.context, "internal", attributes=attributes)

    def rename(self, name: str) -> None:
        if self._recorded is not None:
            self._recorded.update_name(name)

    def note(self, attributes: Attributes) -> None:
        if self._recorded is not None:
            self._recorded.set_attributes(attributes)

    def end(self, *, error: str | None = None, at_ns: int | None = None) -> None:
        """End the span. ``error``: the kind of its failure. ``at_ns``: since 1970; by default now."""
        if self._recorded is not None:
            if error is not None:
                from opentelemetry.trace import StatusCode

                self._recorded.set_attribute("error.type", error)
                self._recorded.set_status(StatusCode.ERROR)
            self._recorded.end(at_ns)

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error=kind.__name__ if kind is not None else None)


NOTHING = Span(new())


def begin(name: str, traceparent: str | None, kind: Kind, *, recorded: bool = True) -> Span:
    """Begin this process's part of a trace, in a request or job.

    Args:
        traceparent: of the caller. If it is missing or malformed, a new trace begins.
        recorded: whether the span is recorded, if spans are.
    """
    parent = parse(traceparent)
    if _exporter is None or not recorded:
        return Span(parent or new())
    return _exporter.start(name, parent, kind, remote=True)


def span(
    name: str, attributes: Attributes | None = None, *, kind: Kind = "internal"
) -> AbstractContextManager[Span]:
    """Record the block as a part of the current span, and be the current span in it."""
    if _exporter is None or (parent := current()) is None:
        return NOTHING
    return _recorded(_exporter.start(name, parent, kind, attributes=attributes))


@contextmanager
def _recorded(span: Span) -> Iterator[Span]:
    token = CURRENT.set(span.context)
    try:
        with span:
            yield span
    finally:
        CURRENT.reset(token)


def streamed(
    name: str, pieces: Iterator[T], attributes: Attributes, *, kind: Kind = "internal"
) -> Iterator[T]:
    """Record the time from the first piece to the last, as a part of the span that is current now."""
    if _exporter is None or (parent := current()) is None:
        return pieces
    return _streamed(_exporter, name, parent, kind, pieces, attributes)


def _streamed(
    exporter: Exporter,
    name: str,
    parent: TraceContext,
    kind: Kind,
    pieces: Iterator[T],
    attributes: Attributes,
) -> Iterator[T]:
    span, error = exporter.start(name, parent, kind, attributes=attributes), None
    try:
        yield from pieces
    except Exception as exc:  # GeneratorExit is none: the reader wants no more
        error = type(exc).__name__
        raise
    finally:
        span.end(error=error)


def record(
    name: str,
    parent: TraceContext | None,
    began_ns: int,
    seconds: float,
    attributes: Attributes,
    *,
    service: str | None = None,
    error: str | None = None,
) -> None:
    """Record what has ended already.

    Args:
        began_ns: since 1970.
        service: of a child process, which cannot send its own spans; by default this process's.
    """
    if _exporter is not None and parent is not None:
        span = _exporter.start(
            name, parent, "internal", attributes=attributes, at_ns=began_ns, service=service
        )
        span.end(error=error, at_ns=began_ns + round(seconds * 1e9))
