"""Times by the database's own clock, so that the clocks of the machines need not agree."""

from model_service.storage.common.db import Document


def from_now(seconds: float) -> Document:
    """The expression for the time that is so far away; a negative one has passed."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}
