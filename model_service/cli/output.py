"""What the commands print: the service's JSON for programs, tables for people.

stdout carries the result and nothing else; bars and errors go to stderr. Whatever came from an upload (a
name, a message) loses its control characters first, so that no escape sequence of its reaches the terminal.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_service.client import ModelServiceClient, Page

Json = Annotated[bool, typer.Option("--json", help="Print the service's JSON.")]
PageNumber = Annotated[int, typer.Option("--page", min=1, help="Which page, from 1.")]
PageSize = Annotated[int | None, typer.Option("--limit", min=1, help="How many on a page.")]

_UNITS = ("B", "kB", "MB", "GB", "TB")
# A pipe has no width: nothing may be folded or cut for it.
_PIPE_COLUMNS = 500


def client_of(context: typer.Context) -> ModelServiceClient:
    client: ModelServiceClient = context.obj
    return client


def emit(data: Mapping[str, Any], as_json: bool, *shown: str | Table) -> None:
    """``data`` with --json, else ``shown``."""
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    for each in shown:
        console.print(printable(each) if isinstance(each, str) else each, soft_wrap=isinstance(each, str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Rows of a list; the first column is the id and is never cut: it is there to be copied."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        drawn.add_column(name, no_wrap=number == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn


def record(pairs: Mapping[str, Any]) -> Table:
    """One thing, a line for each field that has a value."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, "", (), {}, []):
            drawn.add_row(name, _cell(value))
    return drawn


def footer(page: Page[Any]) -> str:
    more = f" Next: --page {page.page + 1}" if page.page < page.pages else ""
    return f"{len(page.items)} of {page.total}, page {page.page} of {max(page.pages, 1)}.{more}"


def printable(text: str) -> str:
    """Line breaks stay, every other control character is replaced."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def size(size_bytes: int | None) -> str:
    """Decimal units, as disks and the service's limits use."""
    if size_bytes is None:
        return ""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _cell(value: Any) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"))
    if isinstance(value, list | tuple):
        return Text(printable(", ".join(map(str, value))))
    if isinstance(value, Mapping):
        return Text(printable(", ".join(f"{name}={item}" for name, item in value.items())))
    return Text(printable(str(value)))
