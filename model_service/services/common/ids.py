"""Ids as clients send them."""

from uuid import UUID

from model_service.errors import MalformedId


def parse_uuid(kind: str, value: str) -> str:
    """The id of an export job or a deployment in its canonical form. Raises: MalformedId."""
    try:
        return str(UUID(value))
    except ValueError:
        raise MalformedId(kind, value) from None
