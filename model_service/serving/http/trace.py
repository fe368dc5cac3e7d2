"""The spans of an inference request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_service import tracing
from model_service.tracing import http

if TYPE_CHECKING:
    from model_service.serving.engine.engine import Ran
    from model_service.serving.hosting.loaded_deployment import LoadedDeployment
    from model_service.serving.hosting.member import Member


def end(span: tracing.Span, scope: Any, route: str, status: int, request_id: str) -> None:
    """End the span of a request, after its response was sent."""
    if span.is_recorded:
        http.answered(
            span,
            method=scope.method,
            scheme=scope.scheme,
            path=scope.path,
            route=route,
            status=status,
            request_id=request_id,
        )()


def record_runs(span: tracing.Span, hosted: LoadedDeployment, member: Member, ran: Ran) -> None:
    """Describe the inference, and record the runs of the model in it, also those in a model host.

    The span has in addition the time in the queue, and of the way to the host and back.
    """
    span.note(
        {
            "model_service.deployment.id": hosted.id,
            "model_service.deployment.name": hosted.name,
            "model_service.member": member.name,
            "model_service.model.version": member.model_version,
            "model_service.model.format": member.format,
        }
    )
    for run in ran.runs:
        attributes = {"model_service.batch.requests": run.requests}
        service = None
        if run.host_pid is not None:
            attributes["process.pid"], service = run.host_pid, "model-host"
        tracing.record("model run", span.context, run.began_ns, run.seconds, attributes, service=service)
