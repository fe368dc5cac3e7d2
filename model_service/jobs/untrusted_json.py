"""JSON from child processes that read untrusted files."""

import json
from typing import Any


def parse(content: bytes) -> Any:
    """Return the value, with ``?`` in the place of each half of a surrogate pair, which MongoDB cannot store.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        storable = json.dumps(json.loads(content), ensure_ascii=False).encode(errors="replace")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return json.loads(storable)
