"""What may be declared about a model's surroundings. Standard library only: an API refuses with it."""

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedOption


def check_postprocessing(declared: Mapping[str, Any] | None) -> None:
    """Raises UnsupportedOption for anything but ``{"softmax": bool, "top_k": int > 0}``."""
    for name, value in (declared or {}).items():
        known = (
            isinstance(value, bool)
            if name == "softmax"
            else name == "top_k" and type(value) is int and value > 0
        )
        if not known:
            raise UnsupportedOption(
                f"postprocessing.{name}={str(value)[:40]} is not supported; it takes "
                "softmax (true or false) and top_k (1 or more).",
                allowed={"softmax": "boolean", "top_k": "integer"},
                option="postprocessing",
            )
