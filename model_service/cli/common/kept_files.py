"""What is kept on this machine between commands: small JSON files that their owner alone reads."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def folder() -> Path:
    """In ``XDG_CONFIG_HOME``, as the XDG Base Directory Specification has it, else in ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return home / "model-service"


def read(file: Path) -> dict[str, Any]:
    """Nothing where there is no such file, or it is not one of ours."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def put(file: Path, name: str, value: Any) -> None:
    """Raises OSError: it cannot be written."""
    with _locked(file):
        _write(file, read(file) | {name: value})


def drop(file: Path, name: str) -> None:
    """Does nothing where it is not there. Raises OSError: the file cannot be written."""
    if name in read(file):
        with _locked(file):
            _write(file, {key: value for key, value in read(file).items() if key != name})


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """While no other command changes ``file``, which is replaced and cannot be locked itself."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Windows and some network file systems have none: the later of two commands at a time wins there.
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(file: Path, content: dict[str, Any]) -> None:
    aside = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            json.dump(content, target)
        aside.replace(file)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
