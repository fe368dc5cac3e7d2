"""One deployment, loaded: proven once more on this machine, then ready to answer."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import golden, package, runners
from exporters.errors import as_limit
from exporters.processing.pipeline import Pipeline
from model_service.storage.db import Document

if TYPE_CHECKING:
    from exporters.base import Arrays


class LoadFailed(Exception):
    """The package cannot be served; the message says why."""


@dataclass(frozen=True)
class Hosted:
    """What a request needs, all of it in memory and none of it ever changed."""

    id: str
    model_version: str
    package_id: str
    runner: runners.Runner
    pipeline: Pipeline
    key_hashes: tuple[bytes, ...]

    def accepts(self, api_key: str) -> bool:
        """Compared by hash, in a time that does not depend on how much of the key is right."""
        sent = hashlib.sha256(api_key.encode()).digest()
        return any(hmac.compare_digest(sent, known) for known in self.key_hashes)

    def predictions(self, outputs: Arrays) -> list[Any] | None:
        """What the declared post-processing makes of the first output; None where nothing is declared."""
        return self.pipeline.predictions(outputs)


def package_id(deployment: Document) -> str:
    return str(deployment["package"]["checksum"])


def key_hashes(deployment: Document) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key["sha256"]) for key in deployment["keys"])


def load(deployment: Document, folder: Path) -> Hosted:
    """Load a verified package and replay its golden inputs, which warms it up too.

    Raises:
        LoadFailed: proven of the package: its artefact or its metadata cannot be served by anybody like us.
        LimitExceeded, OSError, ImportError: this machine's own trouble, which may pass.
    """
    try:
        return _load(deployment, folder)
    except (LoadFailed, OSError, ImportError):
        raise
    except Exception as exc:  # a runtime refuses a model with exceptions of its own
        if limit := as_limit(exc):
            raise limit from exc
        raise LoadFailed(f"The package cannot be served: {exc}") from exc


def _load(deployment: Document, folder: Path) -> Hosted:
    runner = runners.load(folder)
    differing = golden.replay(folder, runner)
    if differing:
        raise LoadFailed(f"The golden inputs give other answers on this machine: {', '.join(differing)}.")
    metadata = json.loads((folder / package.METADATA).read_bytes())
    hosted = Hosted(
        id=deployment["_id"],
        model_version=deployment["model_version"],
        package_id=package_id(deployment),
        runner=runner,
        pipeline=Pipeline(metadata, folder),
        key_hashes=key_hashes(deployment),
    )
    expected = golden.read(folder / package.GOLDEN).expected
    try:
        hosted.predictions({spec.name: expected[spec.name] for spec in runner.outputs})
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as exc:
        raise LoadFailed(f"The declared post-processing does not fit the model's outputs: {exc}") from exc
    return hosted
