"""Export of spans by OTLP over HTTP. Imported only if it is configured: nothing else imports OpenTelemetry.

The SDK's batch processor has a bounded queue and a thread of its own: a collector that is slow or away
delays no request, and spans that do not fit the queue are dropped.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from multiprocessing.util import Finalize

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from model_service import __version__
from model_service.config import Settings, SettingsError
from model_service.tracing.context import TraceContext
from model_service.tracing.spans import Attributes, Kind, Span

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
_LAST_SPANS_S = 2.0
# What opentelemetry.util.re accepts.
_HEADER = re.compile(r"\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*=[ !#-+\--:<-\[\]-~]*")
_PREFIX = "model-service-"


class Exporter:
    """``service``: of this process, the end of its ``service.name``, which OTEL_SERVICE_NAME replaces."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._service = service
        self._processor = BatchSpanProcessor(_otlp(settings))
        self._tracers = {service: self._new_tracer(service)}
        # At the end of this process; also of a multiprocessing child, which runs no function of atexit.
        Finalize(None, self._close, exitpriority=1)

    @staticmethod
    def check(settings: Settings) -> None:
        """Raises: SettingsError."""
        _otlp(settings).shutdown()  # type: ignore[no-untyped-call]

    def start(
        self,
        name: str,
        parent: TraceContext | None,
        kind: Kind,
        *,
        attributes: Attributes | None = None,
        at_ns: int | None = None,
        service: str | None = None,
        remote: bool = False,
    ) -> Span:
        span = self._tracer(service or self._service).start_span(
            name,
            context=_inside(parent, remote=remote),
            kind=_KINDS[kind],
            attributes=attributes,
            start_time=at_ns,
        )
        found = span.get_span_context()
        context = TraceContext(
            format_trace_id(found.trace_id), format_span_id(found.span_id), found.trace_flags.sampled
        )
        return Span(context, span)

    def _tracer(self, service: str) -> Tracer:
        tracer = self._tracers.get(service)
        if tracer is None:
            tracer = self._tracers[service] = self._new_tracer(service)
        return tracer

    def _new_tracer(self, service: str) -> Tracer:
        named = Resource.create().attributes.get("service.name")
        attributes = {
            "service.name": f"{_PREFIX}{service}",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}-{service}",
        }
        if not str(named).startswith("unknown_service"):  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
            del attributes["service.name"]
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider.get_tracer("model_service", __version__)

    def _close(self) -> None:
        """Send the waiting spans. In a thread, since an exporter that retries cannot be stopped."""
        closing = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(_LAST_SPANS_S)


def _otlp(settings: Settings) -> OTLPSpanExporter:
    """Raises: SettingsError: another variable of OpenTelemetry is wrong."""
    _check_headers()
    try:
        return OTLPSpanExporter(endpoint=f"{settings.otel_exporter_otlp_endpoint}/v1/traces")
    except (ValueError, OSError) as exc:
        raise SettingsError(f"A variable OTEL_EXPORTER_OTLP_… is not allowed: {exc}") from None


def _check_headers() -> None:
    """Reject malformed headers: the SDK would ignore them, and log them with their secrets.

    Raises: SettingsError.
    """
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        for header in os.environ.get(name, "").split(","):
            if header.strip() and not _HEADER.fullmatch(header):
                raise SettingsError(
                    f"{name} must be NAME=VALUE, or several separated by commas. In a value, write commas, "
                    "semicolons, quotes and backslashes percent-encoded"
                )


def _inside(parent: TraceContext | None, *, remote: bool) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    position = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), remote, flags)
    return set_span_in_context(NonRecordingSpan(position), Context())
