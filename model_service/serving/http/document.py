"""The OpenAPI document of the inference server, from the classes of its bodies; ``/openapi.json``.

The inputs of a model are not in it, but in ``GET /v2/models/{name}`` and in the package's ``metadata.json``.
"""

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from model_service import __version__
from model_service.serving.protocols import tensors

_REFERENCE = "#/components/schemas/{model}"
_NAME = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^/\u0000\u001f\u007f]+$"}


class Health(BaseModel):
    status: Literal["healthy", "starting"]
    service: str
    mongodb_connected: bool
    quotas: dict[str, bool]
    deployments: int
    failing: list[str]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class Server(BaseModel):
    name: str
    version: str
    extensions: list[str]


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ModelConfig(BaseModel):
    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]


class Statistics(BaseModel):
    model_stats: list[dict[str, Any]]


class IndexedModel(BaseModel):
    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class InferenceRequest(BaseModel):
    """An inference request has exactly one of inputs, image, images, text, texts and the forms of a table."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] | list[Any] | float | None = None
    image: str | None = Field(None, description="Base64")
    images: list[str] | None = None
    text: str | None = None
    texts: list[str] | None = None
    records: list[dict[str, Any]] | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    dataframe_split: dict[str, Any] | None = None
    model: str | None = Field(None, description="for a deployment with several models")
    confidence_threshold: float | None = Field(None, description="for a detector, as are the next two")
    iou_threshold: float | None = None
    max_detections: int | None = None
    top_k: int | None = Field(None, description="for a classifier")


class InferenceAnswer(BaseModel):
    deployment_id: str
    model_version: str
    member: str
    latency_ms: float
    outputs: dict[str, Any] | None = None
    predictions: list[Any] | None


class OpenTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class OpenOutput(BaseModel):
    name: str
    parameters: dict[str, Any] | None = None


class OpenRequest(BaseModel):
    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[OpenTensor]
    outputs: list[OpenOutput] | None = None


class OpenAnswer(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OpenTensor]


class ErrorBody(BaseModel):
    code: str
    message: str
    details: dict[str, Any]


class Error(BaseModel):
    success: Literal[False]
    error: ErrorBody
    request_id: str


class OpenError(BaseModel):
    """The error of the paths under /v2."""

    error: str


_OPEN = {"name": "name", "in": "path", "required": True, "schema": _NAME}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": _NAME}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# The media types that /v1/infer accepts beside JSON.
_OTHER_BODIES = (
    "application/octet-stream",
    "application/x-npy",
    "application/x-npz",
    "image/png",
    "image/jpeg",
    "text/csv",
    "application/vnd.apache.parquet",
)


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(model)}}


def _operation(
    summary: str, answer: dict[str, Any], error: type[BaseModel], *, key: bool = False, **more: Any
) -> dict[str, Any]:
    """``key``: the request needs a deployment's key."""
    failed = {"description": "The request was rejected: the error has the reason", "content": _json(error)}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": answer},
            "4XX": failed,
            "5XX": failed | {"description": "The service is temporarily unavailable"},
        },
        **({"security": [{"bearer": []}, {"api_key": []}]} if key else {"security": []}),
        **more,
    }


def _readiness(summary: str, model: type[BaseModel]) -> dict[str, Any]:
    operation = _operation(summary, _json(model), model)
    operation["responses"]["503"] = {"description": "The server is not ready yet", "content": _json(model)}
    return operation


def _body(model: type[BaseModel], *others: str) -> dict[str, Any]:
    return {"required": True, "content": _json(model) | dict.fromkeys(others, _BINARY)}


def _models() -> dict[str, Any]:
    """Return the paths of one model of the Open Inference Protocol."""
    paths: dict[str, Any] = {}
    for prefix, parameters in (
        ("/v2/models/{name}", [_OPEN]),
        ("/v2/models/{name}/versions/{version}", [_OPEN, _VERSION]),
    ):
        for suffix, summary, answer in (
            ("", "Metadata of a deployment's model", ModelMetadata),
            ("/ready", "Whether the model is loaded", ModelReady),
            ("/config", "The model's configuration, in Triton's format", ModelConfig),
            ("/stats", "The model's statistics since it was loaded", Statistics),
        ):
            shown = _operation(summary, _json(answer), OpenError, key=True, parameters=parameters)
            paths[prefix + suffix] = {"get": shown}
        paths[f"{prefix}/infer"] = {
            "post": _operation(
                "Run the model on JSON or binary tensors",
                _json(OpenAnswer) | {"application/octet-stream": _BINARY},
                OpenError,
                key=True,
                parameters=parameters,
                requestBody=_body(OpenRequest),
            )
        }
    return paths


def _paths() -> dict[str, Any]:
    target = {"name": "deployment_id", "in": "path", "required": True, "schema": _NAME}
    return {
        "/v1/infer/{deployment_id}": {
            "post": _operation(
                "Run a deployment's model, by the deployment's id or name",
                _json(InferenceAnswer) | dict.fromkeys(("application/x-npy", "application/x-npz"), _BINARY),
                Error,
                key=True,
                parameters=[target],
                requestBody=_body(InferenceRequest, *_OTHER_BODIES),
            )
        },
        **{
            path: {"get": _operation(summary, _json(Health), Error)}
            for path, summary in (
                ("/health", "Health of this process"),
                ("/health/live", "The same as /health"),
            )
        },
        "/health/ready": {"get": _readiness("Readiness; 503 until the first load is complete", Health)},
        "/metrics": {
            "get": _operation("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}, Error)
        },
        "/openapi.json": {
            "get": _operation(
                "This OpenAPI document", {"application/json": {"schema": {"type": "object"}}}, Error
            )
        },
        "/v2": {
            "get": _operation("Name, version and protocol extensions of the server", _json(Server), OpenError)
        },
        "/v2/health/live": {"get": _operation("Whether the server is alive", _json(Live), OpenError)},
        "/v2/health/ready": {"get": _readiness("Whether everything is loaded", Ready)},
        "/v2/models/stats": {
            "get": _operation(
                "Statistics of all models that the key gives access to", _json(Statistics), OpenError
            )
        },
        "/v2/repository/index": {
            "post": _operation(
                "The models that the key gives access to",
                {"application/json": {"schema": {"type": "array", "items": _reference(IndexedModel)}}},
                OpenError,
            )
        },
        **_models(),
    }


@cache
def document() -> bytes:
    """Return the document as JSON."""
    models = [each for each in globals().values() if isinstance(each, type) and issubclass(each, BaseModel)]
    wanted: list[Any] = [(model, "validation") for model in models if model is not BaseModel]
    _, schemas = models_json_schema(wanted, ref_template=_REFERENCE)
    content = {
        "openapi": "3.1.0",
        "info": {"title": "Model Service inference", "version": __version__},
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    return bytes(tensors.dump(content))
