"""The endpoint keys that ``--keep-key`` stores, by deployment."""

from pathlib import Path

import typer

from model_service.cli.common import kept_files as kept
from model_service.cli.common.output import file_problem


def key_file() -> Path:
    return kept.folder() / "deployment_keys.json"


def keep_key(deployment_id: str, key: str) -> None:
    """Store a key. If the file cannot be written, print a warning only: the key must still be printed."""
    try:
        kept.put(key_file(), deployment_id, key)
    except OSError as exc:
        typer.echo(f"The key was not stored: {file_problem(exc)}", err=True)


def kept_key(deployment_id: str) -> str | None:
    key = kept.read(key_file()).get(deployment_id)
    return key if isinstance(key, str) else None


def forget_key(deployment_id: str) -> None:
    """Remove a key. Raises OSError if the file cannot be written."""
    kept.drop(key_file(), deployment_id)
