"""One export: fetch the source, convert and verify it in a child process, publish the package."""

import errno
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import structlog

from exporters import package as packages
from model_service import tracing
from model_service.errors import is_disk_full
from model_service.jobs import trace
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.conversion import interface_of, request_of, results_of
from model_service.jobs.converter import Abandoned, Child, ConversionError, ConverterKilled, Event
from model_service.jobs.lease import Lease
from model_service.jobs.source import fetch, fetch_samples
from model_service.metrics import EXPORT_DURATION, EXPORTS, count_failure
from model_service.sentences import as_field
from model_service.states import JobErrorCode
from model_service.storage.blobs.blobs import Blob
from model_service.storage.blobs.descriptions import of_package
from model_service.storage.blobs.disk_space import MONGODB, WORK
from model_service.storage.common.db import CONNECTION_ERRORS, Session
from model_service.storage.common.documents import Fields, blobs_of
from model_service.storage.exports.documents import ExportJob
from model_service.storage.exports.exports import answered_from

log = structlog.get_logger(__name__)

# Progress: fetching and publishing are the ends of the bar; the child's steps fill the part between.
_FETCHED, _CONVERTED = 5.0, 95.0
_MOST_CHILDREN = 10  # per attempt: a child that is killed before it read the model is replaced
_PUBLISH_LIMIT = 1 << 50  # no limit: the child's EXPORT_DISK has limited the package already


class _JobLost(Exception):
    """Another worker has the job, or it was cancelled: this attempt must store nothing."""


def export(job_id: str) -> None:
    """Run an export job. ``job_id`` only shows that one waits; ``_claim`` chooses the job to run."""
    context = CONTEXT.get()
    settings = context.settings
    if short := context.disk.short(WORK, MONGODB):
        # The job stays pending, and the reconciler enqueues it again until there is space.
        log.warning("export.waits_for_disk", job_id=job_id, free_bytes=short, least=settings.disk_min_free)
        return
    job = _claim(context)
    if job is None:
        return
    with (
        trace.continued("export", job.get("traceparent"), job_id=job["_id"]) as span,
        EXPORT_DURATION.labels(format=job["export_format"]).time(),
    ):
        log.info("export.started", job_id=job["_id"], attempt=job["attempts"])
        outcome = _export(context, job)
        span.note(
            {
                "model_service.export.format": job["export_format"],
                "model_service.export.attempt": job["attempts"],
                "model_service.export.outcome": outcome,
            }
        )
    EXPORTS.labels(format=job["export_format"], outcome=outcome).inc()


def _claim(context: Context) -> ExportJob | None:
    """Claim the next job; None if no job waits."""
    settings = context.settings
    turns = context.stores.export_turns
    while job_id := turns.next_in_turn(settings.job_max_attempts):
        job = context.stores.exports.claim(
            job_id,
            worker=context.worker,
            lease_s=settings.job_lease_s,
            max_attempts=settings.job_max_attempts,
        )
        if job is not None:
            return job
    return None


def _export(context: Context, job: ExportJob) -> str:
    """Run the claimed job. Returns its outcome: completed, reused, failed, abandoned or interrupted."""
    job_id, token = job["_id"], job["lease"]["token"]
    try:
        if _answered_from_an_equal_one(context, job):
            log.info("export.reused", job_id=job_id)
            return "reused"
        with Lease(context.stores.exports, job_id, token, context.settings.job_lease_s) as lease:
            return "completed" if _run_in_a_child(context, job, lease) else "failed"
    except (Abandoned, _JobLost):
        log.info("export.abandoned", job_id=job_id)
        if context.stopping.is_set():
            context.stores.exports.hand_back(job_id, token)
        return "abandoned"
    except CONNECTION_ERRORS as exc:
        # Not the model's fault: the lease expires and the reconciler enqueues the job again.
        log.warning("export.interrupted", job_id=job_id, error=str(exc))
        return "interrupted"
    except Exception as exc:
        if is_disk_full(exc):
            log.warning("export.disk_full", job_id=job_id, attempt=job["attempts"])
            return _try_again(context, job, _disk_full(job))
        log.exception("export.broken", job_id=job_id)
        message = "The service failed while it ran this export; its log has the cause under the job's id."
        return _try_again(context, job, ConversionError(JobErrorCode.INTERNAL_ERROR, message))
    finally:
        if not context.stopping.is_set():
            context.converter.prewarm()


def _try_again(context: Context, job: ExportJob, failure: ConversionError) -> str:
    """Return the job to waiting, or fail it after JOB_MAX_ATTEMPTS. Returns this attempt's outcome."""
    if job["attempts"] < context.settings.job_max_attempts:
        line = f"Attempt {job['attempts']} ended with {failure.code}; the job is tried again."
        context.stores.exports.hand_back(job["_id"], job["lease"]["token"], failed=line)
        return "interrupted"
    _fail(context, job, failure)
    return "failed"


def _disk_full(job: ExportJob) -> ConversionError:
    return ConversionError(
        JobErrorCode.DISK_FULL,
        f"The worker's disk was full in each of {job['attempts']} attempts: free space in its "
        "workspace (MODEL_SERVICE_HOME/work) and retry the export.",
    )


def _answered_from_an_equal_one(context: Context, job: ExportJob) -> bool:
    """Complete the job with an equal stored export by the same tools. Returns whether there is one."""
    if context.toolchain is None or not job.get("reuse") or "request_digest" not in job:
        return False
    stores = context.stores
    equal = stores.exports.find_equal(job, [context.toolchain.digest])
    if equal is None:
        return False

    def work(session: Session) -> None:
        if not stores.blobs.retain(equal["package"]["file_id"], session):
            raise _JobLost  # cannot happen, since exports keep their packages; the next attempt would convert
        if not stores.exports.complete(job["_id"], job["lease"]["token"], answered_from(equal), session):
            raise _JobLost
        stores.blobs.release_all(blobs_of(job), session)

    stores.database.transaction(work)
    return True


def _run_in_a_child(context: Context, job: ExportJob, lease: Lease) -> bool:
    """Run the conversion, replacing children that are killed before they read the model. See ``_run``.

    Raises:
        ConverterBroken: no child read the model.
    """
    more = _MOST_CHILDREN
    while True:
        with closing(context.converter.take()) as child:
            try:
                return _run(context, job, child, lease)
            except ConverterKilled as exc:
                more -= 1
                if not more:
                    raise
                log.warning("converter.killed", job_id=job["_id"], error=str(exc))


def _run(context: Context, job: ExportJob, child: Child, lease: Lease) -> bool:
    """Return whether the export was verified and stored; otherwise the job has the reason."""
    job_id, token = job["_id"], job["lease"]["token"]
    exports, blobs = context.stores.exports, context.stores.blobs
    report = exports.report
    pid = child.process.pid
    report(job_id, token, percent=0.0, message="fetching the source", progress_step="fetch", process_id=pid)
    package = child.workspace / "package"
    try:
        named = job["export_config"].get("architecture") is not None
        with tracing.span("fetch"):
            source = fetch(blobs, job["source"], child.workspace, architecture=named)
            samples = fetch_samples(blobs, job["source"], child.workspace)
        report(job_id, token, percent=_FETCHED, message="starting the converter", progress_step="start")

        def on_progress(event: Event) -> None:
            percent = _FETCHED + event["percent"] / 100 * (_CONVERTED - _FETCHED)
            with suppress(*CONNECTION_ERRORS):  # a conversion continues while MongoDB is unreachable
                step = str(event.get("step", ""))[:40]
                report(job_id, token, percent=round(percent, 1), message=event["message"], progress_step=step)

        with tracing.span("converter", {"process.pid": pid}):
            result = child.convert(
                request_of(context.settings, job, source, samples, package),
                timeout_s=context.settings.export_timeout_s,
                on_progress=on_progress,
                on_step=trace.step_recorder(pid),
                abandoned=lambda: lease.lost.is_set() or context.stopping.is_set(),
            )
    except ConversionError as failure:
        if failure.details.get("limit") == "disk" and context.disk.short(WORK):
            raise OSError(errno.ENOSPC, failure.message) from failure
        log.info("export.failed", job_id=job_id, code=failure.code)
        # A package that failed its verification is kept for diagnosis.
        kept = failure.code == JobErrorCode.VERIFICATION_FAILED and (package / packages.MANIFEST).is_file()
        _fail(context, job, failure, _store(context, package) if kept else None)
        return False
    report(job_id, token, percent=_CONVERTED, message="storing the package", progress_step="store")
    results = {**results_of(job, result), **interface_of(package)}
    if context.toolchain is not None:
        results["toolchain"] = context.toolchain.digest
    with tracing.span("store"):
        _end(
            context,
            job,
            _store(context, package),
            lambda reference, session: exports.complete(job_id, token, {**results, **reference}, session),
        )
    log.info("export.completed", job_id=job_id)
    return True


def _store(context: Context, package: Path) -> Blob:
    """Store the package as a zip in an unpublished blob."""
    archive = package.with_suffix(".zip")
    packages.pack(package, archive)
    with archive.open("rb") as file:
        return context.stores.blobs.write(iter(lambda: file.read(1 << 20), b""), limit_bytes=_PUBLISH_LIMIT)


def _fail(context: Context, job: ExportJob, failure: ConversionError, package: Blob | None = None) -> None:
    def fail(reference: Fields, session: Session) -> bool:
        results = {**reference, "fidelity": failure.details.get("fidelity")}
        return context.stores.exports.fail(
            job["_id"],
            job["lease"]["token"],
            code=failure.code,
            message=as_field(failure.message),
            results=results,
            session=session,
        )

    _end(context, job, package, fail)
    count_failure(failure.code)


def _end(
    context: Context, job: ExportJob, package: Blob | None, finish: Callable[[Fields, Session], bool]
) -> None:
    """Finish the job, publish its package and release its source in one transaction.

    Raises:
        _JobLost: ``finish`` found that the lease is lost; nothing was stored.
    """

    def refer(stored: Blob | None, session: Session) -> None:
        if not finish({"package": stored.reference()} if stored else {}, session):
            raise _JobLost
        context.stores.blobs.release_all(blobs_of(job), session)

    if package is None:
        context.stores.database.transaction(lambda session: refer(None, session))
    else:
        context.stores.blobs.publish(package, refer, described=of_package(job))
