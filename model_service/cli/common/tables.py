"""Formatting for the terminal: lists that fit its width, and single records.

Control characters are removed from texts of uploads (a name, a message), so that their escape sequences do
not reach the terminal.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Listing:
    """Format rows, one line each.

    The first column is the id and is never truncated, so that it can be copied. If the terminal is too
    narrow, the columns in ``spare`` are removed in that order; then texts are truncated.
    """

    def __init__(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], spare: Sequence[str] = (), gap: int = 2
    ) -> None:
        self._columns = columns
        self._rows = [dict(zip(columns, row, strict=True)) for row in rows]
        self._spare = spare
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        spare = list(self._spare)
        shown = list(self._columns)
        drawn = self._draw(shown)
        unlimited = options.update(max_width=10_000)
        while spare and Measurement.get(console, unlimited, drawn).maximum > options.max_width:
            shown.remove(spare.pop(0))
            drawn = self._draw(shown)
        yield drawn

    def _draw(self, shown: Sequence[str]) -> Table:
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, self._gap - 1, 0, 0), show_edge=False)
        for number, name in enumerate(shown):
            drawn.add_column(Text(name, no_wrap=True, overflow="ellipsis"), no_wrap=number == 0)
        for row in self._rows:
            drawn.add_row(*(_line(row[name]) for name in shown))
        return drawn


class Record:
    """Format one record, one line for each field that has a value.

    A long value continues in the next line. A word, which may be an address or a key, is never broken, so
    that it can be copied.
    """

    def __init__(self, pairs: Mapping[str, Any]) -> None:
        self._pairs = {name: value for name, value in pairs.items() if value not in (None, "", (), {}, [])}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = max(map(len, self._pairs), default=0) + 2
        for name, value in self._pairs.items():
            label = name.ljust(indent)
            width = max(options.max_width - indent, 20)
            for line in _wrapped(_words(value), width):
                yield Text.assemble((label, "bold"), line)
                label = " " * indent


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in text.split("\n"):
        yield from textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def printable(text: str) -> str:
    """Replace every control character except line breaks."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def size(size_bytes: float | None) -> str:
    """Format bytes in decimal units, like disks and the service's limits."""
    if size_bytes is None:
        return ""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def sizes(*sizes_bytes: float | None) -> list[str]:
    """Format all values in the unit of the largest, so that they can be compared."""
    largest = max((each for each in sizes_bytes if each is not None), default=0.0)
    power = next((n for n in range(len(_UNITS)) if largest < 1000 ** (n + 1)), len(_UNITS) - 1)
    digits = 2 if power else 0
    return [
        "" if each is None else f"{each / 1000**power:.{digits}f} {_UNITS[power]}" for each in sizes_bytes
    ]


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms"


def _line(value: Any) -> Text:
    return Text(" ".join(_words(value).split("\n")), no_wrap=True, overflow="ellipsis")


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value)))
    if isinstance(value, Mapping):
        return printable(", ".join(f"{name}={item}" for name, item in value.items()))
    return printable(str(value))
