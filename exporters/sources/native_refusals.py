"""How the state of an estimator is refused."""

from typing import Any

from ..errors import UnsafeCheckpoint


def require(condition: Any, what: str) -> None:
    """Raises UnsafeCheckpoint: the condition is false; ``what`` the estimator holds."""
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator holds {what}, which is refused: running it would read memory that is not its "
            "own. Save it again from scikit-learn.",
            refused=what,
        )


def require_code(
    condition: Any, what: str, advice: str = "Only numpy's plain functions, like log1p, are taken."
) -> None:
    """As ``require``, of what could run code."""
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator holds {what}, which is refused: using it could run code. {advice}",
            refused=what,
        )
