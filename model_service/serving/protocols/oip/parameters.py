"""The ``parameters`` of a request of the Open Inference Protocol, and of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_service.serving.protocols import tensors

_NONE: Mapping[str, Any] = {}


def of(holder: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return _NONE
    if parameters.__class__ is not dict:
        raise tensors.invalid(field, "must be an object")
    if "shared_memory_region" in parameters:
        raise tensors.invalid(field, "shared memory is not supported; send the tensor in the request")
    found: Mapping[str, Any] = parameters
    return found


def flag(parameters: Mapping[str, Any], name: str, field: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if value.__class__ is not bool:
        raise tensors.invalid(f"{field}.{name}", "must be true or false")
    return bool(value)
