"""The supervisor's log: the usual lines, without the 15 MB of memory that structlog needs."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


def log_line(level: str, event: str, **fields: Any) -> None:
    """Write one line to stderr in the form of LOG_FORMAT, if LOG_LEVEL includes the level."""
    wanted = (os.environ.get("LOG_LEVEL") or "INFO").upper()
    if wanted in _LEVELS and _LEVELS.index(level.upper()) < _LEVELS.index(wanted):
        return
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    chosen = os.environ.get("LOG_FORMAT")
    if chosen == "text" or (not chosen and sys.stderr.isatty()):
        details = " ".join(f"{key}={value}" for key, value in fields.items())
        line = f"{at} [{level:<9}] {event:<24} {details}".rstrip()
    else:
        line = json.dumps({**fields, "event": event, "level": level, "timestamp": at})
    print(line, file=sys.stderr, flush=True)
