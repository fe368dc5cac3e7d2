"""Removing what nothing refers to."""

import structlog

from model_service.storage.blobs import Blobs

log = structlog.get_logger(__name__)


def sweep(blobs: Blobs, safety_s: float) -> None:
    """Remove interrupted uploads and unreferenced blobs older than ``safety_s``."""
    removed = blobs.sweep(safety_s)
    if removed:
        log.info("sweep.removed", blobs=removed)
