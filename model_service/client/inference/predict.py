"""Predictions with a deployment."""

import math
import time
from collections.abc import Mapping
from typing import Any, Unpack

from model_service.client.deployment_types import Deployment
from model_service.client.deployments import DeploymentCalls
from model_service.client.errors import InvalidRequest
from model_service.client.inference.open_inference import Signature
from model_service.client.inference.sync_inference import (
    Endpoint,
    Options,
    Prediction,
    Question,
    Request,
    headers_of,
)
from model_service.client.transport.http import Transport
from model_service.client.transport.progress import MakeBar

_NAME_KNOWN_S = 10.0  # another deployment may get the name


class PredictCalls(DeploymentCalls):
    def __init__(self, transport: Transport, progress: bool | MakeBar | None) -> None:
        super().__init__(transport, progress)
        self._endpoints: dict[str, tuple[Endpoint, float]] = {}
        self._signatures: dict[Endpoint, Signature] = {}

    def predict(
        self, deployment: str | Deployment, inputs: Any = None, **options: Unpack[Options]
    ) -> Prediction:
        """Send an inference request to a deployment: a Deployment, its id, its name or its endpoint's URL.

        ``inputs`` has the batch as its first axis: an array (of numpy, or readable by numpy), a dict of
        arrays by input name, nested lists or a dict of them, or the bytes of a ``.npy`` or ``.npz`` file.
        Arrays are sent and returned in binary; numbers are converted to the model's dtype if only precision
        is lost.

        The service applies the model's declared processing to an ``image`` or a list of images: the path of a
        file, its bytes, a Pillow image (these may also be passed as ``inputs``) or a uint8 array of shape [H,
        W, 3]. The same applies to a ``text`` or a list of texts.

        ``records`` are rows for a model with named columns, which may be in any order: a list of dicts, a
        data frame of pandas or polars, or the path of a ``.csv`` or ``.parquet`` file.

        After 429 or 503 the request is retried at the time that the response names, and after a refused
        connection a few times. A request that may have been computed is never retried.

        Args:
            model: the name of a model, for a deployment of several.
            predictions: True: the service also converts outputs for arrays to classes or boxes, and returns
                JSON. For images, texts and lists it always does.
            confidence_threshold, iou_threshold, max_detections: for a detector, instead of its package's
                values; ``top_k`` for a classifier.
            api_key: the endpoint key; by default that of the Deployment, or MODEL_SERVICE_DEPLOYMENT_KEY.
            headers: additional headers, such as a sticky header.
            timeout_s: for the whole call; by default the client's timeout.

        Raises:
            Unauthorized: no key, or a wrong one.
            InvalidRequest: the inputs do not fit the model.
            InvalidArgument: the inputs cannot be sent, or there is no endpoint yet.
            TooManyRequests, ServiceUnavailable: a limit is reached for longer than ``timeout_s``.
            ConnectionFailed: no response, or not in time.
        """
        question = Question.of(inputs, options)
        endpoint = self._endpoint(deployment).of_model(options.get("model"))
        headers = headers_of(deployment, options)
        deadline = time.monotonic() + (options.get("timeout_s") or self._transport.timeout_s)
        if not question.is_binary:
            return self._infer(question.to(endpoint, None), headers, deadline)
        known = self._signatures.get(endpoint)
        signature = known or self._signature(endpoint, headers, deadline)
        try:
            return self._infer(question.to(endpoint, signature), headers, deadline)
        except InvalidRequest:
            # The endpoint may have another model by now. If not, the error is raised.
            if known is None or self._signature(endpoint, headers, deadline) == known:
                raise
        return self._infer(question.to(endpoint, self._signatures[endpoint]), headers, deadline)

    def _endpoint(self, deployment: str | Deployment) -> Endpoint:
        """Return the endpoint of a deployment: cached for an id, and for _NAME_KNOWN_S seconds for a name."""
        if not isinstance(deployment, str) or "://" in deployment:
            return Endpoint.of(deployment)
        endpoint, until = self._endpoints.get(deployment, (None, 0.0))
        if endpoint is None or until <= time.monotonic():
            found = self.get_deployment(deployment)
            endpoint = Endpoint.of(found)
            until = math.inf if deployment == found.id else time.monotonic() + _NAME_KNOWN_S
            self._endpoints[deployment] = endpoint, until
        return endpoint

    def _signature(self, endpoint: Endpoint, headers: Mapping[str, str], deadline: float) -> Signature:
        answer = self._transport.send("GET", endpoint.protocol, headers=headers, deadline=deadline)
        signature = Signature.from_body(answer.data)
        self._signatures[endpoint] = signature
        return signature

    def _infer(self, request: Request, headers: Mapping[str, str], deadline: float) -> Prediction:
        answer = self._transport.send(
            "POST", request.url, headers={**request.headers, **headers}, body=request.body, deadline=deadline
        )
        return request.read(answer.headers, answer.data)
