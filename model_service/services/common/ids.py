"""Validation of ids that clients send."""

from uuid import UUID

from model_service.errors import MalformedId


def parse_uuid(kind: str, value: str) -> str:
    """Return the id of an export job, deployment or other UUID in canonical form. Raises: MalformedId."""
    try:
        return str(UUID(value))
    except ValueError:
        raise MalformedId(kind, value) from None
