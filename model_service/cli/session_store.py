"""What ``login`` keeps: a token for each service, in a file that its owner alone reads."""

import json
import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_service.client import Session


def session_file() -> Path:
    """In ``XDG_CONFIG_HOME``, as the XDG Base Directory Specification has it, else in ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "model-service" / "sessions.json"


def stored_token(url: str) -> str | None:
    """Of the service at ``url`` and of no other, while it holds."""
    try:
        entry = _read()[_key(url)]
        holds = datetime.fromisoformat(entry["expires_at"]) > datetime.now(UTC)
        return str(entry["token"]) if holds else None
    except (TypeError, KeyError, ValueError):  # none, or nothing of ours
        return None


def keep(url: str, session: Session) -> None:
    """Raises OSError: the file cannot be written."""
    entry = {"user": session.user, "token": session.token, "expires_at": session.expires_at.isoformat()}
    _write(_read() | {_key(url): entry})


def forget(url: str) -> None:
    """Raises OSError: the file cannot be written."""
    sessions = _read()
    if sessions.pop(_key(url), None) is not None:
        _write(sessions)


def _key(url: str) -> str:
    return url.rstrip("/")


def _read() -> dict[str, Any]:
    """Nothing where there is no such file, or it is not one of ours."""
    try:
        sessions = json.loads(session_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return sessions if isinstance(sessions, dict) else {}


def _write(sessions: dict[str, Any]) -> None:
    file = session_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            json.dump(sessions, target)
        aside.replace(file)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
