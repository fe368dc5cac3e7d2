"""Progress bars: rich's on a terminal if it is installed, otherwise none.

Any callable of the type ``MakeBar`` can replace them.
"""

import sys
from typing import Literal, Protocol

Unit = Literal["bytes", "percent"]


class Bar(Protocol):
    def update(self, done: float, label: str | None = None) -> None:
        """Show ``done``, an absolute value that may decrease if a download starts again."""

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
    """One bar on stderr. It leaves no trace on a terminal; in a file, its last state is one line."""

    def __init__(self, label: str, total: float, unit: Unit) -> None:
        from rich import progress
        from rich.console import Console
        from rich.text import Text

        class Speed(progress.TransferSpeedColumn):
            """Shows nothing instead of rich's ``?`` while the speed is unknown, as after a single step."""

            def render(self, task: progress.Task) -> Text:
                return super().render(task) if task.finished_speed or task.speed else Text()

        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
        ]
        if unit == "bytes":
            columns += [progress.DownloadColumn(), Speed()]
            columns += [progress.TimeRemainingColumn(elapsed_when_finished=True)]
        else:
            columns += [progress.TimeElapsedColumn()]
        console = Console(stderr=True)
        self._display = progress.Progress(*columns, console=console, transient=console.is_terminal)
        self._task = self._display.add_task(_printable(label), total=total)
        self._display.start()

    def update(self, done: float, label: str | None = None) -> None:
        description = None if label is None else _printable(label)
        self._display.update(self._task, completed=done, description=description)

    def close(self) -> None:
        self._display.stop()


def _rich_bar(label: str, total: float, unit: Unit) -> Bar:
    """Create a bar, unless rich already draws a live display.

    Two live displays, for example a status of the caller or another thread's bar, overwrite each other's
    lines. Any console that draws has replaced the streams by its proxy.
    """
    from rich.file_proxy import FileProxy

    if isinstance(sys.stdout, FileProxy) or isinstance(sys.stderr, FileProxy):
        return _NoBar()
    return _RichBar(label, total, unit)


def _printable(label: str) -> str:
    """Replace unprintable characters: a label may come from an upload and contain escape sequences."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in label)


def bars(wanted: bool | MakeBar | None) -> MakeBar:
    """Return rich's bars for True, none for False; for None, rich's on a terminal if it is installed.

    Raises:
        ImportError: True, and rich is not installed.
    """
    if callable(wanted):
        return wanted
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        return _no_bar
    try:
        import rich.progress  # noqa: F401 - only tests whether it is installed
    except ImportError:
        if wanted:
            raise ImportError("progress=True needs rich: pip install rich") from None
        return _no_bar
    return _rich_bar
