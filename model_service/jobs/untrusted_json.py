"""JSON from child processes that read untrusted files, in a form that MongoDB stores."""

import json
from typing import Any

_MOST_NESTED = 100  # MongoDB's own limit is 200 for a whole document


def parse(content: bytes) -> Any:
    """Return the value, changed where MongoDB could not store or return it.

    A text has ``?`` for each half of a surrogate pair and each NUL; a key also for a leading ``$``, since
    MongoDB's drivers read ``$ref`` as a reference. An integer beyond 64 bits becomes a text.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return _storable(json.loads(content), _MOST_NESTED)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _storable(value: Any, deepest: int) -> Any:
    if deepest < 0:
        raise ValueError("nested too deeply")
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "?")
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case list():
            return [_storable(inner, deepest - 1) for inner in value]
        case dict():
            return {_key(name): _storable(inner, deepest - 1) for name, inner in value.items()}
    return value


def _key(name: str) -> str:
    text: str = _storable(name, 0)
    return f"?{text[1:]}" if text.startswith("$") else text
