"""The session tokens of ``login``, one per service, in a file that only its owner can read."""

from datetime import UTC, datetime
from pathlib import Path

from model_service.cli.common import kept_files as kept
from model_service.client import Session


def session_file() -> Path:
    return kept.folder() / "sessions.json"


def stored_token(url: str) -> str | None:
    """Return the token for the service at ``url``, until it expires."""
    try:
        entry = kept.read(session_file())[_key(url)]
        holds = datetime.fromisoformat(entry["expires_at"]) > datetime.now(UTC)
        return str(entry["token"]) if holds else None
    except (TypeError, KeyError, ValueError):  # no token, or not this program's file
        return None


def keep(url: str, session: Session) -> None:
    """Store a token. Raises OSError if the file cannot be written."""
    entry = {"user": session.user, "token": session.token, "expires_at": session.expires_at.isoformat()}
    kept.put(session_file(), _key(url), entry)


def forget(url: str) -> None:
    """Remove a token. Raises OSError if the file cannot be written."""
    kept.drop(session_file(), _key(url))


def _key(url: str) -> str:
    return url.rstrip("/")
