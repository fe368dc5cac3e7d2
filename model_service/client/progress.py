"""Progress bars: rich's when it is installed and a person is watching, nothing otherwise.

Anything callable as ``MakeBar`` can take their place.
"""

import sys
from typing import Literal, Protocol

Unit = Literal["bytes", "percent"]


class Bar(Protocol):
    def update(self, done: float, label: str | None = None) -> None:
        """``done`` is absolute and may go back: a download that cannot be resumed starts again."""

    def close(self) -> None: ...


class MakeBar(Protocol):
    def __call__(self, label: str, total: float, unit: Unit) -> Bar: ...


class _NoBar:
    def update(self, done: float, label: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass


def _no_bar(label: str, total: float, unit: Unit) -> Bar:
    return _NoBar()


class _RichBar:
    """One bar on stderr, with a console of its own: several threads may each show one."""

    def __init__(self, label: str, total: float, unit: Unit) -> None:
        from rich import progress
        from rich.console import Console

        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
        ]
        if unit == "bytes":
            columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
            columns += [progress.TimeRemainingColumn()]
        else:
            columns += [progress.TimeElapsedColumn()]
        self._display = progress.Progress(*columns, console=Console(stderr=True))
        self._task = self._display.add_task(_printable(label), total=total)
        self._display.start()

    def update(self, done: float, label: str | None = None) -> None:
        description = None if label is None else _printable(label)
        self._display.update(self._task, completed=done, description=description)

    def close(self) -> None:
        self._display.stop()


def _printable(label: str) -> str:
    """A label may come from an upload: no escape sequence of its reaches the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in label)


def bars(wanted: bool | MakeBar | None) -> MakeBar:
    """True: rich's bars, False: none, None: rich's if stderr is a terminal and rich is installed.

    Raises:
        ImportError: True, and rich is not installed.
    """
    if callable(wanted):
        return wanted
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        return _no_bar
    try:
        import rich.progress  # noqa: F401 - only whether it is there
    except ImportError:
        if wanted:
            raise ImportError("progress=True needs rich: pip install rich") from None
        return _no_bar
    return _RichBar
