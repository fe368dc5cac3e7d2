"""The logs of the supervised processes on one stream: text for people, or JSON lines for programs."""

import contextlib
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_COLOURS = (36, 33, 32, 35, 34)  # terminal codes of cyan, yellow, green, magenta, blue
_LEVEL_COLOURS = {"warning": 33, "error": 31, "critical": 31}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Console:
    """Writes lines with the name of their process, coloured on a terminal.

    Never raises: if the reader is gone, the processes must still be stopped in order.

    Args:
        as_text: ``name | text`` instead of JSON objects with ``process``.
    """

    def __init__(self, fd: int, names: Sequence[str], *, as_text: bool) -> None:
        self._fd = fd
        self._as_text = as_text
        self._coloured = os.isatty(fd) and "NO_COLOR" not in os.environ
        width = max(map(len, names))
        self._prefixes = {
            name: self._paint(f"{name:<{width}} | ", _COLOURS[index % len(_COLOURS)])
            for index, name in enumerate(names)
        }

    def write(self, name: str, lines: Sequence[str]) -> None:
        text = "".join(self._text(name, line) if self._as_text else _json(name, line) for line in lines)
        with contextlib.suppress(OSError):
            os.write(self._fd, text.encode())

    def _text(self, name: str, line: str) -> str:
        entry = _parse(line)
        shown = human(line)
        if entry is not None:
            shown = self._paint(shown, _LEVEL_COLOURS.get(str(entry.get("level")), 0))
        return "".join(f"{self._prefixes[name]}{part}\n" for part in shown.split("\n"))

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour else text


def human(line: str) -> str:
    """Format a log line as ``12:30:00 event key=value``; a traceback follows on its own lines.

    Control characters are removed: logs contain text from clients, which terminals would interpret.
    """
    entry = _parse(line)
    if entry is None:
        return _CONTROL.sub("", line)
    at, level, event = (str(entry.pop(name, "")) for name in ("timestamp", "level", "event"))
    traceback = str(entry.pop("exception", "")).splitlines()
    words = [_local_time(at), *([level.upper()] if level in _LEVEL_COLOURS else []), event]
    words += [f"{key}={_value(value)}" for key, value in entry.items()]
    return "\n".join(_CONTROL.sub("", part) for part in [" ".join(filter(None, words)), *traceback])


def _parse(line: str) -> dict[str, Any] | None:
    """Return the fields of a structured log line; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _json(name: str, line: str) -> str:
    entry = _parse(line) or {"event": line, "level": "info", "timestamp": datetime.now(UTC).isoformat()}
    return json.dumps({"process": name, **entry}) + "\n"


def _local_time(timestamp: str) -> str:
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return timestamp


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
