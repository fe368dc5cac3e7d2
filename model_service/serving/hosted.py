"""One deployment, loaded: proven once more on this machine, then ready to answer."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import golden, package, runners
from exporters.errors import ExportError
from exporters.processing.classify import top_k
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
    postprocessing: dict[str, Any] | None
    classes: list[str] | None
    key_hashes: tuple[bytes, ...]

    def accepts(self, api_key: str) -> bool:
        """Compared by hash, in a time that does not depend on how much of the key is right."""
        sent = hashlib.sha256(api_key.encode()).digest()
        return any(hmac.compare_digest(sent, known) for known in self.key_hashes)

    def predictions(self, outputs: Arrays) -> list[Any] | None:
        """What the declared post-processing makes of the first output; None where nothing is declared."""
        if self.postprocessing is None:
            return None
        return top_k(
            next(iter(outputs.values())),  # type: ignore[arg-type]  # a classifier's scores are floating
            self.classes,
            k=self.postprocessing.get("top_k", 1),
            softmax=self.postprocessing.get("softmax", False),
        )


def package_id(deployment: Document) -> str:
    return str(deployment["package"]["checksum"])


def key_hashes(deployment: Document) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key["sha256"]) for key in deployment["keys"])


def load(deployment: Document, folder: Path) -> Hosted:
    """Verify the package's manifest, load it, and replay its golden inputs, which warms it up too.

    Raises:
        LoadFailed: a damaged package, or other outputs here than the golden ones.
    """
    try:
        package.verify(folder)
        runner = runners.load(folder)
        differing = golden.replay(folder, runner)
        metadata = json.loads((folder / package.METADATA).read_bytes())
    except ExportError as exc:
        raise LoadFailed(f"The package cannot be served: {exc.message}") from exc
    if differing:
        raise LoadFailed(f"The golden inputs give other answers on this machine: {', '.join(differing)}.")
    classes = metadata["classes"]
    return Hosted(
        id=deployment["_id"],
        model_version=deployment["model_version"],
        package_id=package_id(deployment),
        runner=runner,
        postprocessing=metadata["postprocessing"],
        classes=[entry["name"] for entry in classes] if classes else None,
        key_hashes=key_hashes(deployment),
    )
