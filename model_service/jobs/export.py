"""One export: fetch the source, convert and prove it in a child process, publish the package."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import structlog

from exporters import package as packages
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Abandoned, Child, ConversionError, Event
from model_service.jobs.lease import Lease
from model_service.storage.blobs import Blob, BlobDamaged, blob_of
from model_service.storage.db import CONNECTION_ERRORS, Document, Session

log = structlog.get_logger(__name__)

# The child's own steps fill the middle of the bar; fetching and publishing are its ends.
_FETCHED, _CONVERTED = 5.0, 95.0
_PUBLISH_LIMIT = 1 << 50  # the child's EXPORT_DISK has bounded the package already


class _JobLost(Exception):
    """Another worker has the job, or it was cancelled: nothing of this try may be stored."""


def export(job_id: str) -> None:
    """Run the export job ``job_id``, unless somebody else does."""
    context = CONTEXT.get()
    settings = context.settings
    job = context.exports.claim(
        job_id,
        worker=context.worker,
        lease_s=settings.job_lease_s,
        max_attempts=settings.job_max_attempts,
    )
    if job is None:
        return
    token = job["lease"]["token"]
    log.info("export.started", job_id=job_id, attempt=job["attempts"])
    try:
        with (
            Lease(context.exports, job_id, token, settings.job_lease_s) as lease,
            closing(context.converter.take()) as child,
        ):
            _run(context, job, child, lease)
    except (Abandoned, _JobLost):
        log.info("export.abandoned", job_id=job_id)
        if context.stopping.is_set():
            context.exports.hand_back(job_id, token)
    except CONNECTION_ERRORS as exc:
        # Not the model's fault: the lease runs out and the reconciler hands the job out again.
        log.warning("export.interrupted", job_id=job_id, error=str(exc))
    except Exception:
        log.exception("export.broken", job_id=job_id)
        message = "The service failed while it ran this export; its log has the reason under the job's id."
        context.exports.fail(job_id, token, code="internal_error", message=message)
    finally:
        if not context.stopping.is_set():
            context.converter.prewarm()


def _run(context: Context, job: Document, child: Child, lease: Lease) -> None:
    job_id, token = job["_id"], job["lease"]["token"]
    report = context.exports.report
    report(job_id, token, percent=0.0, message="fetching the source")
    package = child.workspace / "package"
    try:
        source = _fetch(context, job, child.workspace)
        report(job_id, token, percent=_FETCHED, message="converting")

        def on_progress(event: Event) -> None:
            percent = _FETCHED + event["percent"] / 100 * (_CONVERTED - _FETCHED)
            with suppress(*CONNECTION_ERRORS):  # a conversion goes on while MongoDB is away
                report(job_id, token, percent=round(percent, 1), message=event["message"])

        result = child.convert(
            _request(job, source, package),
            timeout_s=context.settings.export_timeout_s,
            on_progress=on_progress,
            abandoned=lambda: lease.lost.is_set() or context.stopping.is_set(),
        )
    except ConversionError as failure:
        _store_failure(context, job, failure, package)
        return
    report(job_id, token, percent=_CONVERTED, message="storing the package")
    _publish(context, package, lambda blob, session: _complete(context, job, blob, result, session))
    log.info("export.completed", job_id=job_id)


def _fetch(context: Context, job: Document, workspace: Path) -> Path:
    blob = blob_of(job["source"])
    source = workspace / f"source{Path(job['source']['filename']).suffix}"
    try:
        with source.open("wb") as file:
            for piece in context.blobs.read(blob.id, 0, blob.size_bytes):
                file.write(piece)
    except BlobDamaged as exc:
        message = "The stored source file is damaged; upload the model again."
        raise ConversionError("source_damaged", message) from exc
    return source


def _request(job: Document, source: Path, package: Path) -> dict[str, Any]:
    return {
        "source": str(source),
        "output_dir": str(package),
        "format": job["export_format"],
        "options": job["export_config"],
        "model": {
            "name": job["model_name"],
            "version": job["model_version"],
            "framework": job["framework"],
            "task_type": job["task_type"],
            "checksum": job["source"]["checksum"],
        },
        **job["processing"],
    }


def _complete(context: Context, job: Document, package: Blob, result: Event, session: Session) -> bool:
    results = {
        "model_size_bytes": result["artefact_size_bytes"],
        "exported_model_path": result["artefact"],
        "fidelity": result["fidelity"],
        "performance": result["performance"],
        "optimization_stats": _size_change(job, result),
    }
    return context.exports.complete(job["_id"], job["lease"]["token"], package, results, session)


def _size_change(job: Document, result: Event) -> Document:
    original, exported = job["source"]["size_bytes"], result["artefact_size_bytes"]
    return {
        "original_size_mb": round(original / 1e6, 3),
        "exported_size_mb": round(exported / 1e6, 3),
        "compression_ratio": round(original / exported, 3),
    }


def _store_failure(context: Context, job: Document, failure: ConversionError, package: Path) -> None:
    """A package that failed its verification is kept: somebody has to find out why."""
    job_id, token = job["_id"], job["lease"]["token"]
    log.info("export.failed", job_id=job_id, code=failure.code)
    if failure.code != "verification_failed" or not (package / packages.MANIFEST).is_file():
        context.exports.fail(job_id, token, code=failure.code, message=failure.message)
        return

    def fail(blob: Blob, session: Session) -> bool:
        return context.exports.fail(
            job_id,
            token,
            code=failure.code,
            message=failure.message,
            results={"fidelity": failure.result.get("fidelity")},
            package=blob,
            session=session,
        )

    _publish(context, package, fail)


def _publish(context: Context, package: Path, finish: Callable[[Blob, Session], bool]) -> None:
    """Pack and store the package; ``finish(blob, session)`` ends the job in the same transaction.

    Raises:
        _JobLost: ``finish`` found the job no longer ours; nothing was stored.
    """
    archive = package.with_suffix(".zip")
    packages.pack(package, archive)
    with archive.open("rb") as file:
        pieces = iter(lambda: file.read(1 << 20), b"")
        written = context.blobs.write(pieces, limit_bytes=_PUBLISH_LIMIT)

    def refer(stored: Blob, session: Session) -> None:
        if not finish(stored, session):
            raise _JobLost

    context.blobs.publish(written, refer)
