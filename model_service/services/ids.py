"""Ids as clients send them."""

from typing import Any
from uuid import UUID

from model_service.errors import MalformedId
from model_service.storage.db import object_id


def parse_model_id(value: str) -> Any:
    """The stored form of a model id, 24 hexadecimal digits. Raises: MalformedId."""
    parsed = object_id(value)
    if parsed is None:
        raise MalformedId("model", value)
    return parsed


def parse_uuid(kind: str, value: str) -> str:
    """The id of an export job or a deployment in its canonical form. Raises: MalformedId."""
    try:
        return str(UUID(value))
    except ValueError:
        raise MalformedId(kind, value) from None
