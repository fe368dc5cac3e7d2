"""What is kept on this machine between commands: small JSON files that their owner alone reads."""

import json
import os
import secrets
from contextlib import suppress
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


def write(file: Path, content: dict[str, Any]) -> None:
    """Raises OSError: it cannot be written."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            json.dump(content, target)
        aside.replace(file)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
