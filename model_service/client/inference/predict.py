"""Asking a deployment."""

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
        """Asks a deployment, given as itself, by its id, its name or its endpoint's URL.

        ``inputs`` has the batch as its first axis: an array (numpy's, or what numpy can read), a dict of
        arrays by input name, nested lists or a dict of them, the bytes of a ``.npy`` or ``.npz`` file. Arrays
        travel in binary and come back as arrays; numbers become the model's own type on the way, where
        nothing is lost but precision.

        An ``image``, or a list of them, goes through the model's declared processing in the service: the path
        of a file, its bytes, a picture of Pillow (one of these may also be given as ``inputs``) or a uint8
        array of shape [H, W, 3]. So does a ``text``, or a list of them.

        ``records`` are rows of a model with named columns, in any order of the columns: a list of dicts, a
        data frame of pandas or polars, or the path of a ``.csv`` or ``.parquet`` file.

        What is busy (429, 503) is asked again when it says when, what refuses the connection a few times;
        what may have been computed never is.

        Args:
            model: which one answers, of a deployment of several: its name there.
            predictions: True has the service read the outputs of arrays too (classes, boxes), and send them
                as JSON. Of an image, a text and lists it always does.
            confidence_threshold, iou_threshold, max_detections: of a detector, instead of what its package
                declares; ``top_k`` of a classifier.
            api_key: the deployment's; by default what the Deployment carries, else
                MODEL_SERVICE_DEPLOYMENT_KEY.
            headers: more of them, as the one that a deployment is sticky by.
            timeout_s: of all of it; by default the client's.

        Raises:
            Unauthorized: no key, or a wrong one.
            InvalidRequest: the inputs do not fit the model.
            InvalidArgument: the inputs cannot be sent, or nothing serves them yet.
            TooManyRequests, ServiceUnavailable: a limit is reached, until later than ``timeout_s``.
            ConnectionFailed: no answer, or not in time.
        """
        question = Question.of(inputs, options)
        endpoint = self._endpoint(deployment).of_model(options.get("model"))
        headers = headers_of(deployment, options)
        deadline = time.monotonic() + (options.get("timeout_s") or self._transport.timeout_s)
        if not question.is_binary:
            return self._ask(question.to(endpoint, None), headers, deadline)
        known = self._signatures.get(endpoint)
        signature = known or self._signature(endpoint, headers, deadline)
        try:
            return self._ask(question.to(endpoint, signature), headers, deadline)
        except InvalidRequest:
            # It may have another model by now. If not, the refusal stands.
            if known is None or self._signature(endpoint, headers, deadline) == known:
                raise
        return self._ask(question.to(endpoint, self._signatures[endpoint]), headers, deadline)

    def _endpoint(self, deployment: str | Deployment) -> Endpoint:
        """The address of an id stays, whatever is served there; a name is looked up again after a while."""
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

    def _ask(self, request: Request, headers: Mapping[str, str], deadline: float) -> Prediction:
        answer = self._transport.send(
            "POST", request.url, headers={**request.headers, **headers}, body=request.body, deadline=deadline
        )
        return request.read(answer.headers, answer.data)
