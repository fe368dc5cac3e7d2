"""Refuse an unsafe state of an estimator."""

from typing import Any

from ..errors import UnsafeCheckpoint


def require(condition: Any, what: str) -> None:
    """Raises UnsafeCheckpoint if the condition is false. ``what`` describes the refused state."""
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator contains {what}, which is refused: running it could read memory outside "
            "its arrays. Save it again from scikit-learn.",
            refused=what,
        )


def require_code(
    condition: Any, what: str, advice: str = "Only plain numpy functions, such as log1p, are supported."
) -> None:
    """Like ``require``, for state that could run code."""
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator contains {what}, which is refused: using it could run code. {advice}",
            refused=what,
        )
