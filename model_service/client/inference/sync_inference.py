"""Build inference requests and read their responses, without sending them.

The synchronous and the asynchronous client send these requests. Arrays are sent to
``/v2/models/{name}/infer`` and returned in binary. Everything else is sent to ``/v1/infer/{deployment_id}``,
whose responses include the predictions that the service derives from the outputs.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict
from urllib.parse import unquote, urlencode, urlsplit

from urllib3 import encode_multipart_formdata

from model_service.client.deployment_types import Deployment
from model_service.client.errors import InvalidArgument, UnexpectedAnswer
from model_service.client.inference import images, open_inference, tables
from model_service.client.inference.inputs import encode, has_array
from model_service.client.inference.open_inference import JSON_BYTES, Signature
from model_service.client.records import Record
from model_service.client.transport.http import segment

KEY_VARIABLE = "MODEL_SERVICE_DEPLOYMENT_KEY"

_URL = re.compile(
    r"(?P<base>https?://.+?)/(?:v1/infer|v2/models)/(?P<name>[^/?#]+)"
    r"(?:/versions/(?P<model>[^/?#]+))?(?:/infer)?/?"
)


@dataclass(frozen=True, kw_only=True)
class Prediction(Record):
    """The result of an inference request.

    ``outputs`` maps each output's name to its values, the batch first: arrays if arrays were sent, otherwise
    nested lists. ``predictions`` has the classes or boxes that the service derives from the outputs, if they
    were requested and the model declares them. ``latency_ms`` is measured in the server. ``raw`` is the
    response's JSON; for arrays, it includes the values of the headers.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    predictions: list[Any] | None = None
    latency_ms: float | None = None
    model_version: str | None = None
    member: str | None = None
    deployment_id: str | None = None

    parsers = {"latency_ms": float}  # noqa: RUF012 - a ClassVar, declared in Record


class Options(TypedDict, total=False):
    """The options of ``predict`` of both clients, beside the inputs; see ``ModelServiceClient.predict``."""

    image: Any
    text: str | Sequence[str] | None
    records: Any
    model: str | None
    predictions: bool | None
    confidence_threshold: float | None
    iou_threshold: float | None
    max_detections: int | None
    top_k: int | None
    api_key: str | None
    headers: Mapping[str, str] | None
    timeout_s: float | None


@dataclass(frozen=True)
class Endpoint:
    """The address of a deployment. ``base`` is the inference server, including the path of a gateway."""

    base: str
    name: str
    model: str | None = None

    @classmethod
    def of(cls, deployment: str | Deployment) -> "Endpoint":
        """Raises InvalidArgument: it is no endpoint's address, or has none yet."""
        url = deployment if isinstance(deployment, str) else deployment.endpoint_url
        if url is None:
            assert isinstance(deployment, Deployment)
            raise InvalidArgument(
                f"Deployment {deployment.id} is {deployment.status} and has no endpoint yet."
            )
        match = _URL.fullmatch(url)
        if match is None or not _is_address(match["base"]):
            raise InvalidArgument(
                f"{url!r} is not the address of an endpoint, like http://127.0.0.1:8085/v1/infer/ID."
            )
        name, model = unquote(match["name"]), match["model"] and unquote(match["model"])
        return cls(match["base"], name, model)

    def of_model(self, model: str | None) -> "Endpoint":
        return self if model is None else Endpoint(self.base, self.name, model)

    def plain(self, query: Mapping[str, Any]) -> str:
        parameters = {**query, **({} if self.model is None else {"model": self.model})}
        return f"{self.base}/v1/infer/{segment(self.name)}" + (
            f"?{urlencode(parameters)}" if parameters else ""
        )

    @property
    def protocol(self) -> str:
        version = "" if self.model is None else f"/versions/{segment(self.model)}"
        return f"{self.base}/v2/models/{segment(self.name)}{version}"


@dataclass(frozen=True)
class Request:
    """``read`` creates a prediction from the response's headers and body."""

    url: str
    body: bytes
    headers: dict[str, str]
    read: Callable[[Mapping[str, str], bytes], Prediction]


@dataclass(frozen=True)
class Question:
    """The arguments of ``ModelServiceClient.predict``, before they are encoded.

    ``what`` is ``inputs``, ``image``, ``text`` or ``records``, and determines how ``content`` is sent.
    """

    what: str
    content: Any
    choices: Mapping[str, float]
    predictions: bool

    @classmethod
    def of(cls, inputs: Any, options: Options) -> "Question":
        """Check the arguments. Raises InvalidArgument for none or several of the four, or invalid options."""
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"predict() has no parameter {min(unknown)!r}.")
        image, predictions = options.get("image"), options.get("predictions")
        if inputs is not None and image is None and images.is_image(inputs):
            inputs, image = None, inputs
        contents = {"inputs": inputs, "image": image}
        contents |= {"text": options.get("text"), "records": options.get("records")}
        given = [(what, content) for what, content in contents.items() if content is not None]
        if len(given) != 1:
            raise InvalidArgument("Give exactly one of inputs, image, text and records.")
        choices = {
            "confidence_threshold": options.get("confidence_threshold"),
            "iou_threshold": options.get("iou_threshold"),
            "max_detections": options.get("max_detections"),
            "top_k": options.get("top_k"),
        }
        chosen = {name: value for name, value in choices.items() if value is not None}
        if chosen and predictions is False:
            raise InvalidArgument(
                f"{next(iter(chosen))} applies to predictions only: remove predictions=False."
            )
        return cls(*given[0], chosen, bool(predictions or chosen))

    @property
    def is_binary(self) -> bool:
        """Return whether arrays are sent and returned, for which the model's signature is needed."""
        return self.what == "inputs" and not self.predictions and has_array(self.content)

    def to(self, endpoint: Endpoint, signature: Signature | None) -> Request:
        """Encode the request. Raises InvalidArgument for a value that cannot be sent."""
        if signature is not None:
            body, json_bytes = open_inference.encode(signature.fit(self.content))
            headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(json_bytes)}
            return Request(f"{endpoint.protocol}/infer", body, headers, _binary)
        body, content_type = self._body()
        read = _plain_arrays if self.what == "inputs" and has_array(self.content) else _plain
        return Request(endpoint.plain(self.choices), body, {"Content-Type": content_type}, read)

    def _body(self) -> tuple[bytes, str]:
        if self.what == "inputs":
            return encode(self.content)
        if self.what == "records":
            return tables.encode(self.content)
        is_one = not isinstance(self.content, list | tuple)
        if self.what == "text":
            return json.dumps({"text" if is_one else "texts": self.content}).encode(), "application/json"
        if is_one:
            return images.encoded(self.content)
        files = [("image", (f"{n}", *images.encoded(image))) for n, image in enumerate(self.content)]
        return encode_multipart_formdata(files)


def _is_address(base: str) -> bool:
    try:
        parts = urlsplit(base)
        return bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def headers_of(deployment: str | Deployment, options: Options, api_key: str | None = None) -> dict[str, str]:
    """Return the headers with a key: the given one, the client's, the deployment's, or the environment's."""
    carried = deployment.api_key if isinstance(deployment, Deployment) else None
    key = options.get("api_key") or api_key or carried or os.environ.get(KEY_VARIABLE)
    return {**({"Authorization": f"Bearer {key}"} if key else {}), **(options.get("headers") or {})}


def _binary(headers: Mapping[str, str], body: bytes) -> Prediction:
    answer, outputs = open_inference.decode(body, headers.get(JSON_BYTES))
    from_headers = {
        "deployment_id": headers.get("X-Deployment-Id") or answer.get("model_name"),
        "model_version": answer.get("model_version"),
        "member": headers.get("X-Member"),
        "latency_ms": headers.get("X-Latency-Ms"),
    }
    return Prediction.from_json({**(answer.get("parameters") or {}), **from_headers, "outputs": outputs})


def _plain(headers: Mapping[str, str], body: bytes) -> Prediction:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.keys().isdisjoint({"outputs", "predictions"}):
        raise UnexpectedAnswer(
            "The server at this address is not an endpoint of Model Service: check the address."
        )
    return Prediction.from_json(answer)


def _plain_arrays(headers: Mapping[str, str], body: bytes) -> Prediction:
    answer = _plain(headers, body)
    return replace(answer, outputs={name: _array_of(values) for name, values in answer.outputs.items()})


def _array_of(values: Any) -> Any:
    """Convert to an array: rows of unequal lengths stay lists; null (NaN or infinity) becomes NaN."""
    import numpy as np

    try:
        array = np.asarray(values)
        return array if array.dtype != object else array.astype(np.float64)
    except (TypeError, ValueError):
        return values
