"""``model-service backup | restore | verify | cleanup``, which run on the operator's machine."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from model_service.cli.common.output import Json, emit
from model_service.cli.common.tables import printable, size
from model_service.cli.operations.server_side import server_side
from model_service.client.transport.progress import bars

if TYPE_CHECKING:
    from model_service.operate import Operator

_STREAM = "-"


@contextmanager
def _operator() -> Iterator["Operator"]:
    """Raises: typer.BadParameter, typer.Exit: there is no server here, or its settings are wrong."""
    with server_side():
        from model_service.errors import ModelServiceError
        from model_service.operate import DataTooNew, operator

        try:
            with operator(lambda line: typer.echo(line, err=True)) as services:
                yield services
        except DataTooNew as exc:
            typer.echo(f"error: data_too_new: {exc}", err=True)
            raise typer.Exit(2) from None
        except ModelServiceError as exc:
            typer.echo(f"error: {exc.code}: {printable(exc.message)}", err=True)
            raise typer.Exit(1) from None


def _bar(label: str) -> Callable[[int, int], None]:
    """A bar that learns its total from the first update."""
    shown: list[Any] = []

    def update(done: int, total: int) -> None:
        if not shown:
            shown.append(bars(None)(label, max(total, 1), "bytes"))
        shown[0].update(done)
        if done >= total:
            shown[0].close()

    return update


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The archive to write, or - for stdout.")],
) -> None:
    """Back up all data of the service into one archive, while it runs."""
    with _operator() as services:
        from model_service.operate import Scope

        began = time.monotonic()
        with closing(services.archive.export(Scope.EVERYTHING, _bar("Backup"))) as pieces:
            written = _write(pieces, file)
        services.archive.record_backup(time.monotonic() - began)
    typer.echo(f"{file}  {size(written)}", err=True)


def _write(pieces: Iterator[bytes], file: str) -> int:
    """Write a file that appears when it is complete, readable by its owner only; return its bytes."""
    written = 0
    if file == _STREAM:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            written += len(piece)
        sys.stdout.buffer.flush()
        return written
    partial = Path(f"{file}.part")
    try:
        with open(partial, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as target:
            for piece in pieces:
                target.write(piece)
                written += len(piece)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return written


def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The archive to read, or - for stdin.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Restore into a database that is not empty; existing data is not changed."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty database."""
    with _operator() as services, _opened(file) as source:
        from model_service.operate import DatabaseNotEmpty

        try:
            restored = services.archive.restore(source, force=force)
        except DatabaseNotEmpty as exc:
            typer.echo(f"error: database_not_empty: {exc} --force adds only what is missing.", err=True)
            raise typer.Exit(1) from None
    counts = (
        ", ".join(f"{count} {name}" for name, count in restored.inserted.items() if count) or "nothing new"
    )
    emit(restored.to_json(), as_json, f"Restored: {counts}; {size(restored.bytes_stored)} of files.")


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == _STREAM:
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as source:
        yield source


def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct reference counts and statistics.")
    ] = False,
) -> None:
    """Check all stored data, and print one line per problem. The exit code is 1 if there is one."""
    problems = repaired = 0
    with _operator() as services:
        for problem in services.integrity.verify(repair=repair, progress=_bar("Verifying")):
            typer.echo(printable(str(problem)))
            problems += not problem.repaired
            repaired += problem.repaired
    summary = f"{problems} problems" if problems else "Everything is whole."
    typer.echo(f"{summary}{f', {repaired} repaired' if repaired else ''}", err=True)
    if problems:
        raise typer.Exit(1)


def cleanup(
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=0, help="Only models that are older than N days.")
    ] = 90,
    status: Annotated[
        str, typer.Option("--status", metavar="STATUS", help="active, deprecated or archived.")
    ] = "archived",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete permanently instead of moving to the trash.")
    ] = False,
) -> None:
    """Delete old models of a status. They can be restored from the trash unless --purge is given."""
    with _operator() as services:
        from model_service.states import ModelStatus

        if status not in set(ModelStatus):
            raise typer.BadParameter(f"one of {', '.join(ModelStatus)}", param_hint="--status")
        wanted = ModelStatus(status)
        count = total = 0
        for model in services.cleanup.old(wanted, days):
            if dry_run or services.cleanup.delete(model, wanted, purge=purge):
                count += 1
                total += model.size_bytes
                row = (str(model.id), model.name, model.version, model.created_at, size(model.size_bytes))
                emit({}, False, "  ".join(map(str, row)))
    done = "would be deleted" if dry_run else "deleted for good" if purge else "moved to the trash"
    typer.echo(f"{count} models, {size(total)}, {done}.", err=True)
