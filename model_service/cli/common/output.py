"""Output of the commands: the service's JSON for programs, tables for people.

Only the result is printed to stdout; bars, hints and errors go to stderr.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from model_service.cli.common.tables import Listing, Record, printable
from model_service.client import ModelServiceClient, Page, WaitTimedOut

Json = Annotated[bool, typer.Option("--json", help="Print the JSON response of the service.")]
PageNumber = Annotated[int, typer.Option("--page", metavar="N", min=1, help="The page number, from 1.")]
PageSize = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="The number of entries per page.")
]

# A pipe has no width: nothing is wrapped or truncated.
_PIPE_COLUMNS = 500


def client_of(context: typer.Context) -> ModelServiceClient:
    client: ModelServiceClient = context.obj
    return client


def emit(data: Mapping[str, Any], as_json: bool, *shown: str | Listing | Record) -> None:
    """Print ``data`` with --json, otherwise ``shown``."""
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    for each in shown:
        if isinstance(each, Listing):
            console.print(each)
        else:
            console.print(printable(each) if isinstance(each, str) else each, soft_wrap=True)


def footer(page: Page[Any]) -> str:
    if page.page is None or page.pages is None:
        more = f" Next: --cursor {page.next_cursor}" if page.next_cursor else ""
        return f"{len(page.items)} found.{more}"
    more = f" Next: --page {page.page + 1}" if page.page < page.pages else ""
    about = "about " if page.total_is_estimate else ""
    return f"{len(page.items)} of {about}{page.total}, page {page.page} of {max(page.pages, 1)}.{more}"


@contextmanager
def waiting(what: str, afterwards: str) -> Iterator[None]:
    """Wait for ``what``. After a timeout or Ctrl-C, print that it continues, and ``afterwards``."""
    try:
        yield
    except WaitTimedOut as exc:
        exc.add_note(afterwards)
        raise
    except KeyboardInterrupt:
        typer.echo(f"\n{what} continues. {afterwards}", err=True)
        raise typer.Exit(130) from None


def file_problem(exc: OSError) -> str:
    name = "the file" if exc.filename is None else exc.filename
    if isinstance(exc, FileNotFoundError):
        return f"There is no file {name}."
    if isinstance(exc, IsADirectoryError):
        return f"{name} is a folder, not a file."
    if isinstance(exc, PermissionError):
        return f"You have no permission to use {name}."
    return f"{name}: {exc.strerror or exc}."
