"""The keys of deployments that ``--keep-key`` keeps, each for the deployment it opens."""

from pathlib import Path

from model_service.cli import kept


def key_file() -> Path:
    return kept.folder() / "deployment_keys.json"


def keep_key(deployment_id: str, key: str) -> None:
    """Raises OSError: the file cannot be written."""
    kept.write(key_file(), kept.read(key_file()) | {deployment_id: key})


def kept_key(deployment_id: str) -> str | None:
    key = kept.read(key_file()).get(deployment_id)
    return key if isinstance(key, str) else None


def forget_key(deployment_id: str) -> None:
    """Raises OSError: the file cannot be written."""
    keys = kept.read(key_file())
    if keys.pop(deployment_id, None) is not None:
        kept.write(key_file(), keys)
