"""The WSGI callable in front of the models. An inference is a lookup, a parse, a run and a dump."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog

from exporters.runners import InputError
from model_service.errors import (
    FileTooLarge,
    IncompleteUpload,
    InvalidRequest,
    ModelServiceError,
    NotFound,
    ServiceFailure,
    ServiceUnavailable,
    Unauthorized,
)
from model_service.metrics import CONTENT_TYPE, INFERENCE_DURATION, INFERENCES, exposition
from model_service.serving import tensors
from model_service.serving.host import Host
from model_service.serving.usage import Usage

log = structlog.get_logger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_INFER = re.compile(r"/v1/infer/([A-Za-z0-9-]{1,64})")
_JSON = "application/json"
_REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"
    status = 405


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class InferenceApp:
    def __init__(self, host: Host, usage: Usage, *, max_body: int) -> None:
        self._host = host
        self._usage = usage
        self._max_body = max_body

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request_id = _request_id(environ)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        path = environ["PATH_INFO"]
        inference = _INFER.fullmatch(path)
        try:
            answer = self._infer(environ, inference[1]) if inference else self._look(path)
        except ModelServiceError as error:
            answer = _failure(error, request_id)
        except Exception:
            log.exception("inference.failed", path=path)
            failure = ServiceFailure(
                "The service failed on this request. Its log has the reason under the request id."
            )
            answer = _failure(failure, request_id)
        if inference:
            INFERENCES.labels(status=answer.status).inc()
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            (_REQUEST_ID, request_id),
            *answer.headers,
        ]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [answer.body]

    def _look(self, path: str) -> Answer:
        match path:
            case "/health" | "/health/live":
                return Answer(200, _JSON, tensors.dump(self._health()))
            case "/health/ready":
                status = 200 if self._host.ready.is_set() else 503
                return Answer(status, _JSON, tensors.dump(self._health()))
            case "/metrics":
                return Answer(200, CONTENT_TYPE, exposition())
        raise NotFound("page", path[:200])

    def _infer(self, environ: Environ, deployment_id: str) -> Answer:
        if environ["REQUEST_METHOD"] != "POST":
            raise MethodNotAllowed(f"Inference is a POST, not a {environ['REQUEST_METHOD']}.")
        hosted = self._host.find(deployment_id)
        if hosted is None and self._host.expects(deployment_id):
            raise ServiceUnavailable(f"Deployment {deployment_id} is not loaded here yet; try again.")
        if hosted is None:
            raise NotFound("active deployment", deployment_id)
        scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer" or not hosted.accepts(key.strip()):
            raise Unauthorized("This endpoint needs its key: 'Authorization: Bearer pk_…'.")
        body = _read(environ, self._max_body)
        inputs = tensors.parse(body, environ.get("CONTENT_TYPE", ""), hosted.runner.inputs)
        started = time.perf_counter()
        try:
            outputs = hosted.runner.predict(inputs)
        except InputError as exc:
            raise InvalidRequest(str(exc)) from None
        seconds = time.perf_counter() - started
        INFERENCE_DURATION.observe(seconds)
        self._usage.count(hosted.id, seconds * 1000)
        content = tensors.dump(
            {
                "deployment_id": hosted.id,
                "model_version": hosted.model_version,
                "latency_ms": round(seconds * 1000, 3),
                "outputs": outputs,
                "predictions": hosted.predictions(outputs),
            }
        )
        return Answer(200, _JSON, content)

    def _health(self) -> dict[str, Any]:
        return {
            "status": "healthy" if self._host.ready.is_set() else "starting",
            "service": "model-service-inference",
            "mongodb_connected": self._host.connected,
            "deployments": len(self._host),
            "failing": self._host.failing,
        }


def _read(environ: Environ, limit_bytes: int) -> bytes:
    announced = environ.get("CONTENT_LENGTH") or None
    if announced is not None and int(announced) > limit_bytes:
        raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
    body: bytes = environ["wsgi.input"].read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
    if announced is not None and len(body) != int(announced):
        raise IncompleteUpload(f"{len(body):,} of {int(announced):,} announced bytes arrived.")
    return body


def _request_id(environ: Environ) -> str:
    """The caller's where it sent a sane one."""
    sent = environ.get("HTTP_X_REQUEST_ID", "")
    return sent if _SANE_ID.fullmatch(sent) else str(uuid.uuid4())


def _failure(error: ModelServiceError, request_id: str) -> Answer:
    headers: tuple[tuple[str, str], ...] = ()
    match error:
        case MethodNotAllowed():
            headers = (("Allow", "POST"),)
        case Unauthorized():
            headers = (("WWW-Authenticate", "Bearer"),)
        case ServiceUnavailable():
            headers = (("Retry-After", str(error.retry_after_s)),)
    body = {"code": error.code, "message": error.message, "details": error.details}
    content = tensors.dump({"success": False, "error": body, "request_id": request_id})
    return Answer(error.status, _JSON, content, headers)
