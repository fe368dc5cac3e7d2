"""Documents of the Open Inference Protocol about a server and its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model_service.serving.protocols.oip.datatypes import named

if TYPE_CHECKING:
    from exporters.base import TensorSpec

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]
# Triton's names, which clients know; other formats keep the names of this service.
_PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "openvino": "openvino",
    "pytorch": "pytorch_libtorch",
    "pt2": "pytorch_libtorch",
    "tensorrt": "tensorrt_plan",
    "torchscript": "pytorch_libtorch",
}
_BACKENDS = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorrt_plan": "tensorrt",
}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


@dataclass(frozen=True)
class Timing:
    """A number of events, and their total nanoseconds."""

    count: int = 0
    ns: int = 0

    def to_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(frozen=True)
class Statistics:
    """The statistics of one version since its load. ``inferences`` counts rows, ``executions`` model runs.

    ``batches``: the number of rows of a run → the timing of these runs. ``last_inference_ms``: since 1970.
    """

    name: str
    version: str
    last_inference_ms: int = 0
    inferences: int = 0
    executions: int = 0
    success: Timing = Timing()
    fail: Timing = Timing()
    queue: Timing = Timing()
    compute_input: Timing = Timing()
    compute_infer: Timing = Timing()
    compute_output: Timing = Timing()
    batches: Mapping[int, Timing] = field(default_factory=dict)


def server(name: str, version: str) -> dict[str, Any]:
    """``GET /v2``."""
    return {"name": name, "version": version, "extensions": EXTENSIONS}


def live() -> dict[str, Any]:
    """``GET /v2/health/live``."""
    return {"live": True}


def ready(is_ready: bool) -> dict[str, Any]:
    """``GET /v2/health/ready``."""
    return {"ready": is_ready}


def model_ready(name: str) -> dict[str, Any]:
    """``GET /v2/models/{m}/ready`` of a loaded model; for any other model it is an error."""
    return {"name": name, "ready": True}


def model(
    name: str,
    versions: Sequence[str],
    format_name: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
) -> dict[str, Any]:
    """Return the body of ``GET /v2/models/{m}``. An axis whose size the caller chooses is -1."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": _PLATFORMS.get(format_name, format_name),
        "inputs": [_tensor(spec) for spec in inputs],
        "outputs": [_tensor(spec) for spec in outputs],
    }


def config(
    name: str,
    format_name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    max_batch_size: int,
    max_delay_ms: float = 0,
    instances: int = 1,
) -> dict[str, Any]:
    """``GET /v2/models/{m}/config``: the fields of Triton's ModelConfig that apply here.

    As in Triton, a model with a ``max_batch_size`` above 0 takes a batch as its first axis, which ``dims``
    leave out. With 0, requests are never batched.
    """
    platform = _PLATFORMS.get(format_name, format_name)
    batched = max_batch_size > 0 and all(
        spec.shape and isinstance(spec.shape[0], str) for spec in (*inputs, *outputs)
    )
    content: dict[str, Any] = {
        "name": name,
        "platform": platform,
        "backend": _BACKENDS.get(platform, platform),
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": max_batch_size if batched else 0,
        "input": [_configured(spec, batched) for spec in inputs],
        "output": [_configured(spec, batched) for spec in outputs],
        "instance_group": [{"name": name, "kind": "KIND_CPU", "count": instances}],
    }
    if batched and max_batch_size > 1:
        content["dynamic_batching"] = {"max_queue_delay_microseconds": round(max_delay_ms * 1000)}
    return content


def statistics(models: Iterable[Statistics]) -> dict[str, Any]:
    """``GET /v2/models/{m}/stats``. There is no cache here, so there are no cache hits and misses."""
    return {"model_stats": [_statistics(one) for one in models]}


def repository(models: Iterable[tuple[str, str, str, str]]) -> list[dict[str, str]]:
    """``POST /v2/repository/index``, from name, version, state (READY, LOADING, UNAVAILABLE) and reason."""
    return [
        {"name": name, "version": version, "state": state, "reason": reason}
        for name, version, state, reason in models
    ]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": named(spec.dtype), "shape": _sizes(spec.shape)}


def _configured(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    datatype = named(spec.dtype)
    return {
        "name": spec.name,
        "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": _sizes(spec.shape[1:] if batched else spec.shape),
    }


def _sizes(shape: Sequence[int | str]) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]


def _statistics(one: Statistics) -> dict[str, Any]:
    none = Timing().to_json()
    return {
        "name": one.name,
        "version": one.version,
        "last_inference": one.last_inference_ms,
        "inference_count": one.inferences,
        "execution_count": one.executions,
        "inference_stats": {
            "success": one.success.to_json(),
            "fail": one.fail.to_json(),
            "queue": one.queue.to_json(),
            "compute_input": one.compute_input.to_json(),
            "compute_infer": one.compute_infer.to_json(),
            "compute_output": one.compute_output.to_json(),
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": none,
                "compute_infer": timing.to_json(),
                "compute_output": none,
            }
            for rows, timing in sorted(one.batches.items())
        ],
    }
