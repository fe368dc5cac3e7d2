"""JSON of common Python values: numbers of numpy and torch, NaN, times, paths.

JSON has no NaN and no infinity: the service accepts the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``, which the client reads as numbers in ``metrics``.
"""

import json
import math
from collections.abc import Mapping
from datetime import date
from os import PathLike, fspath
from typing import Any
from uuid import UUID

from model_service.client.errors import InvalidArgument

_NAMED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(data: Any) -> bytes:
    """Encode JSON. Raises InvalidArgument, naming the value that JSON does not have."""
    try:
        return json.dumps(_plain(data, ""), allow_nan=False).encode()
    except RecursionError:
        raise InvalidArgument("These values are nested too deeply, or contain themselves.") from None


def with_numbers(value: Any) -> Any:
    """Return a response's metrics with NaN and the infinities as numbers."""
    if isinstance(value, dict):
        return {key: with_numbers(inner) for key, inner in value.items()}
    return _NAMED.get(value, value) if isinstance(value, str) else value


def _plain(value: Any, path: str) -> Any:
    match value:
        case None | bool() | str():
            return str(value) if isinstance(value, str) else value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else _name_of(value)
        case Mapping():
            return {
                _key(key, path): _plain(inner, f"{path}.{key}" if path else key)
                for key, inner in value.items()
            }
        case list() | tuple():
            return [_plain(inner, f"{path}.{index}") for index, inner in enumerate(value)]
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case PathLike():
            return fspath(value)
    return _plain(_listed(value, path), path)


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return key
    plain = _plain(key, path)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int | float):
        return json.dumps(plain)
    raise InvalidArgument(
        f"{path or 'The data'} has a key of the type {type(key).__name__}, "
        "which JSON does not support: make it a str."
    )


def _listed(value: Any, path: str) -> Any:
    """Convert an array or scalar of numpy, torch or jax; one with a single element becomes that element."""
    tolist = getattr(value, "tolist", None)
    if not callable(tolist):
        where = f"{path}: a" if path else "A"
        raise InvalidArgument(
            f"{where} value of the type {type(value).__name__} cannot be sent as JSON: give numbers, text, "
            "lists or dicts of them."
        )
    listed = tolist()
    while isinstance(listed, list) and len(listed) == 1:
        (listed,) = listed
    return listed
