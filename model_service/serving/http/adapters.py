"""Adapters of the two inference protocols for the inference handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from model_service.serving.http.inference_handler import DecodedBody
from model_service.serving.protocols import JSON, Answer, npz, oip, platform

if TYPE_CHECKING:
    from model_service.serving.engine.engine import Ran
    from model_service.serving.hosting.loaded_deployment import LoadedDeployment
    from model_service.serving.hosting.member import Member


class PlatformAdapter:
    """``POST /v1/infer/{deployment_id}``."""

    def is_packed(self, body: bytes, scope: Any) -> bool:
        headers = scope.headers
        if "content-encoding" in headers:
            return True
        return headers.get("content-type") not in (JSON, npz.NPY) and npz.is_packed(body)

    def read(self, body: bytes, scope: Any, limit_bytes: int) -> DecodedBody:
        headers = scope.headers
        query = dict(parse_qsl(scope.query_string)) if scope.query_string else None
        decoded = platform.decode(
            body,
            headers.get("content-type") or "",
            query,
            content_encoding=headers.get("content-encoding"),
            limit_bytes=limit_bytes,
        )
        accept = headers.get("accept") or ""
        return DecodedBody(decoded.model, partial(decoded.request, accept=accept), decoded.slow)

    def write(
        self,
        hosted: LoadedDeployment,
        member: Member,
        request: platform.Request,
        ran: Ran,
        seconds: float,
        scope: Any,
    ) -> Answer:
        predictions = None
        if request.answers == JSON:  # responses with tensors only have no room for them
            predictions = member.pipeline.predictions(ran.outputs, request.geometries, **request.overrides)
        return platform.answer(
            request,
            ran.outputs,
            deployment_id=hosted.id,
            model_version=member.model_version,
            member=member.name,
            latency_ms=seconds * 1000,
            predictions=predictions,
            accept_encoding=scope.headers.get("accept-encoding"),
        )


class OpenInferenceAdapter:
    """Reads requests to ``POST /v2/models/{m}/infer`` and writes their responses.

    ``name``: the model's name in the request's URL, which the response repeats.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def is_packed(self, body: bytes, scope: Any) -> bool:
        return "content-encoding" in scope.headers

    def read(self, body: bytes, scope: Any, limit_bytes: int) -> DecodedBody:
        headers = scope.headers
        json_bytes, encoding = headers.get(oip.JSON_BYTES), headers.get("content-encoding")
        ask = partial(oip.decode, body, json_bytes, encoding, limit_bytes=limit_bytes)
        return DecodedBody(None, ask, oip.may_hold_texts(body))

    def write(
        self,
        hosted: LoadedDeployment,
        member: Member,
        request: oip.Request,
        ran: Ran,
        seconds: float,
        scope: Any,
    ) -> Answer:
        answer = oip.encode(
            request,
            ran.outputs,
            model_name=self._name,
            model_version=member.model_version,
            accept_encoding=scope.headers.get("accept-encoding"),
        )
        answer.headers.extend(
            platform.result_headers(hosted.id, member.model_version, member.name, seconds * 1000)
        )
        return answer
