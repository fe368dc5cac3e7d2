"""The WSGI callable in front of the models. An inference is a lookup, a parse, a run and a dump."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
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


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"
    status = 405


class InferenceApp:
    def __init__(self, host: Host, usage: Usage, *, max_body: int) -> None:
        self._host = host
        self._usage = usage
        self._max_body = max_body

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, content_type, body = self._route(environ)
        except ModelServiceError as error:
            status, content_type, body = _failure(error)
        except Exception:
            log.exception("inference.failed", path=environ["PATH_INFO"])
            failure = ServiceFailure("The service failed on this request; its log has the reason.")
            status, content_type, body = _failure(failure)
        phrase = HTTPStatus(status).phrase
        start_response(
            f"{status} {phrase}", [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        )
        return [body]

    def _route(self, environ: Environ) -> tuple[int, str, bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if match := _INFER.fullmatch(path):
            if method != "POST":
                raise MethodNotAllowed(f"Inference is POST {path}, not {method}.")
            try:
                answer = self._infer(environ, match[1])
            except ModelServiceError as error:
                INFERENCES.labels(status=error.status).inc()
                raise
            INFERENCES.labels(status=200).inc()
            return 200, _JSON, answer
        match path:
            case "/health" | "/health/live":
                return 200, _JSON, tensors.dump(self._health())
            case "/health/ready":
                return 200 if self._host.ready.is_set() else 503, _JSON, tensors.dump(self._health())
            case "/metrics":
                return 200, CONTENT_TYPE, exposition()
        raise NotFound("page", path[:200])

    def _infer(self, environ: Environ, deployment_id: str) -> bytes:
        hosted = self._host.find(deployment_id)
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
        return tensors.dump(
            {
                "deployment_id": hosted.id,
                "model_version": hosted.model_version,
                "latency_ms": round(seconds * 1000, 3),
                "outputs": outputs,
                "predictions": hosted.predictions(outputs),
            }
        )

    def _health(self) -> dict[str, Any]:
        return {
            "status": "healthy" if self._host.ready.is_set() else "starting",
            "service": "model-service-inference",
            "mongodb_connected": self._host.connected,
            "deployments": len(self._host),
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


def _failure(error: ModelServiceError) -> tuple[int, str, bytes]:
    body = {"code": error.code, "message": error.message, "details": error.details}
    return (
        error.status,
        _JSON,
        tensors.dump({"success": False, "error": body, "request_id": str(uuid.uuid4())}),
    )
