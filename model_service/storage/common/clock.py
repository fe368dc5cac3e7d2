"""Times by the database's clock, so that the machines' clocks need not agree."""

from model_service.storage.common.documents import Fields


def from_now(seconds: float) -> Fields:
    """Return the expression for the time this many seconds from now; a negative value is in the past."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}
