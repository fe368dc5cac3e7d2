"""One export: fetch the source, convert and verify it in a child process, publish the package."""

from pathlib import Path

from exporters import package as packages
from model_service import tracing
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.conversion import interface_of, request_of, results_of
from model_service.jobs.converter import Child, ConversionError
from model_service.jobs.lease import Lease
from model_service.jobs.leased import FETCHED, RAN, JobLost, JobRunner
from model_service.jobs.source import fetch, fetch_dataset, fetch_samples, fetch_teacher
from model_service.jobs.training_state import TrainingState
from model_service.metrics import EXPORT_DURATION, EXPORTS, count_failure
from model_service.sentences import as_field
from model_service.states import JobErrorCode
from model_service.storage.blobs.blobs import Blob
from model_service.storage.blobs.descriptions import of_package
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields, blobs_of
from model_service.storage.exports.documents import ExportJob
from model_service.storage.exports.exports import answered_from

_PUBLISH_LIMIT = 1 << 50  # no limit: the child's EXPORT_DISK has limited the package already
# After these failures, the package is kept for diagnosis.
_KEPT = frozenset({JobErrorCode.VERIFICATION_FAILED, JobErrorCode.VALIDATION_FAILED})
# Parts of a failure's details → fields of the job.
_REPORTS = {
    "fidelity": "fidelity",
    "validation": "validation_metrics",
    "optimization": "optimization_stats",
}


def export(job_id: str) -> None:
    """Run the next export job. ``job_id`` only shows that one waits."""
    ExportRunner(CONTEXT.get()).run_next(job_id)


class ExportRunner(JobRunner[ExportJob]):
    kind = "export"
    advice_after_repair = "retry the export"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.stores.exports, context.stores.export_turns)

    def start_child(self) -> Child:
        return self.context.converter.take()

    def attributes(self, job: ExportJob) -> dict[str, str | int]:
        return {"format": job["export_format"]}

    def count(self, job: ExportJob, outcome: str, seconds: float) -> None:
        EXPORT_DURATION.labels(format=job["export_format"]).observe(seconds)
        EXPORTS.labels(format=job["export_format"], outcome=outcome).inc()

    def answered(self, job: ExportJob) -> bool:
        """Complete the job with an equal stored export by the same tools. Returns whether there is one."""
        context = self.context
        if context.toolchain is None or not job.get("reuse") or "request_digest" not in job:
            return False
        stores = context.stores
        equal = stores.exports.find_equal(job, [context.toolchain.digest])
        if equal is None:
            return False

        def work(session: Session) -> None:
            if not stores.blobs.retain(equal["package"]["file_id"], session):
                raise JobLost  # cannot happen, since exports keep their packages; the next attempt converts
            if not stores.exports.complete(job["_id"], job["lease"]["token"], answered_from(equal), session):
                raise JobLost
            stores.blobs.release_all(blobs_of(job), session)

        stores.database.transaction(work)
        return True

    def run(self, job: ExportJob, child: Child, lease: Lease) -> None:
        """Convert the model, store the package, and complete the job.

        Raises:
            ConversionError: the conversion or a check of its result failed.
            JobLost, Abandoned.
        """
        context, blobs = self.context, self.context.stores.blobs
        self.report(job, 0.0, "fetching the source", "fetch", process_id=child.process.pid)
        package = _package_of(child.workspace)
        named = job["export_config"].get("architecture") is not None
        with tracing.span("fetch"):
            source = fetch(blobs, job["source"], child.workspace, architecture=named)
            samples = fetch_samples(blobs, job["source"], child.workspace)
            datasets = {
                dataset["role"]: fetch_dataset(blobs, dataset, child.workspace)
                for dataset in job.get("datasets", [])
            }
            teacher = fetch_teacher(blobs, job, child.workspace)
        self.report(job, FETCHED, "starting the converter", "start")
        request = request_of(context.settings, job, source, samples, package, datasets, teacher)
        state = None
        if "training" in datasets:
            state = TrainingState(context, job, child.workspace)
            request["training_dir"] = str(state.fetch())
        result = self.convert(job, child, lease, request, state.store if state is not None else None)
        self.report(job, RAN, "storing the package", "store")
        results = {**results_of(job, result), **interface_of(package)}
        if context.toolchain is not None:
            results["toolchain"] = context.toolchain.digest
        with tracing.span("store"):
            self._end(job, self._store(package), results)

    def _store(self, package: Path) -> Blob:
        """Store the package as a zip in an unpublished blob."""
        archive = package.with_suffix(".zip")
        packages.pack(package, archive)
        with archive.open("rb") as file:
            return self.context.stores.blobs.write(
                iter(lambda: file.read(1 << 20), b""), limit_bytes=_PUBLISH_LIMIT
            )

    def _end(self, job: ExportJob, package: Blob, results: Fields) -> None:
        token, exports = job["lease"]["token"], self.context.stores.exports

        def finish(reference: Fields, session: Session) -> bool:
            return exports.complete(job["_id"], token, {**results, **reference}, session)

        self.end(job, finish, package, of_package(job))

    def fail(self, job: ExportJob, failure: ConversionError, workspace: Path | None = None) -> None:
        package = None
        if workspace is not None and failure.code in _KEPT:
            folder = _package_of(workspace)
            package = self._store(folder) if (folder / packages.MANIFEST).is_file() else None
        reports = {field: failure.details.get(part) for part, field in _REPORTS.items()}

        def finish(reference: Fields, session: Session) -> bool:
            return self.context.stores.exports.fail(
                job["_id"],
                job["lease"]["token"],
                code=failure.code,
                message=as_field(failure.message),
                results={**reference, **reports},
                session=session,
            )

        self.end(job, finish, package, of_package(job))
        count_failure(failure.code)


def _package_of(workspace: Path) -> Path:
    return workspace / "package"
