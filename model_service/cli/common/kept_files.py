"""Files that the commands keep on this machine: small JSON files that only their owner can read."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def folder() -> Path:
    """Return the path in ``XDG_CONFIG_HOME`` (XDG Base Directory Specification) or ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return home / "model-service"


def read(file: Path) -> dict[str, Any]:
    """Read a file. Return an empty dict if it does not exist, or is not this program's."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def put(file: Path, name: str, value: Any) -> None:
    """Write a file. Raises OSError."""
    with _locked(file):
        _write(file, read(file) | {name: value})


def drop(file: Path, name: str) -> None:
    """Remove an entry, if the file exists. Raises OSError if it cannot be written."""
    if name in read(file):
        with _locked(file):
            _write(file, {key: value for key, value in read(file).items() if key != name})


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock while ``file`` is changed; the file itself is replaced, and cannot be locked."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Windows and some network file systems have no such lock: there the later of two concurrent commands
        # wins.
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
