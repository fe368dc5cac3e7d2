"""What ``login`` keeps: a token for each service, in a file that its owner alone reads."""

from datetime import UTC, datetime
from pathlib import Path

from model_service.cli.common import kept_files as kept
from model_service.client import Session


def session_file() -> Path:
    return kept.folder() / "sessions.json"


def stored_token(url: str) -> str | None:
    """Of the service at ``url`` and of no other, while it holds."""
    try:
        entry = kept.read(session_file())[_key(url)]
        holds = datetime.fromisoformat(entry["expires_at"]) > datetime.now(UTC)
        return str(entry["token"]) if holds else None
    except (TypeError, KeyError, ValueError):  # none, or nothing of ours
        return None


def keep(url: str, session: Session) -> None:
    """Raises OSError: the file cannot be written."""
    entry = {"user": session.user, "token": session.token, "expires_at": session.expires_at.isoformat()}
    kept.put(session_file(), _key(url), entry)


def forget(url: str) -> None:
    """Raises OSError: the file cannot be written."""
    kept.drop(session_file(), _key(url))


def _key(url: str) -> str:
    return url.rstrip("/")
