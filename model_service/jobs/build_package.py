"""One package of a deployment: fetch its exports, build a zip in a child process, and store it."""

import errno
from pathlib import Path
from typing import cast

from model_service import tracing
from model_service.jobs.command import PACKAGE_BUILD
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Child, ConversionError
from model_service.jobs.lease import Lease
from model_service.jobs.leased import FETCHED, RAN, JobLost, JobRunner
from model_service.jobs.source import write_blob
from model_service.metrics import PACKAGE_BUILDS
from model_service.sentences import as_field
from model_service.states import SERVED
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import BlobReference, Fields
from model_service.storage.deployments.documents import Deployment, PackageBuild

_LIMIT = 1 << 50  # no limit: the child's EXPORT_DISK has limited the package already


def build_package(deployment_id: str) -> None:
    """Build the next package. ``deployment_id`` only shows that one waits."""
    BuildRunner(CONTEXT.get()).run_next(deployment_id)


class BuildRunner(JobRunner[PackageBuild]):
    kind = "build"
    advice_after_repair = "activate the deployment again"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.stores.package_builds, context.stores.package_build_turns)

    def start_child(self) -> Child:
        return self.context.converter.start(PACKAGE_BUILD)

    def attributes(self, job: PackageBuild) -> dict[str, str | int]:
        return {"type": job["deployment_type"], "revision": job["revision"]}

    def count(self, job: PackageBuild, outcome: str, seconds: float) -> None:
        PACKAGE_BUILDS.labels(type=job["deployment_type"], outcome=outcome).inc()

    def run(self, job: PackageBuild, child: Child, lease: Lease) -> None:
        """Build the package, store it, and make the deployment's revision live.

        Raises:
            ConversionError: the package cannot be built.
            JobLost, Abandoned.
        """
        deployment = self._deployment(job)
        self.context.stores.serving_reports.start_deploying(job["_id"])
        self._log(job, "info", "building", f"Building the package of revision {job['revision']}.")
        self.report(job, 0.0, "fetching the exports", "fetch", process_id=child.process.pid)
        output = child.workspace / "built.zip"
        packages = {}
        with tracing.span("fetch"):
            for file in job["source"]["files"]:
                path = child.workspace / file["path"]
                write_blob(self.context.stores.blobs, file, path, "export")
                packages[path.stem] = str(path)
        self.report(job, FETCHED, "starting the build", "start")
        request = {
            "deployment_type": job["deployment_type"],
            "config": job["config"],
            "packages": packages,
            "output": str(output),
        }
        try:
            self.convert(job, child, lease, request)
        except ConversionError as failure:
            # The child has removed the unfinished zip, so there may be space again.
            if failure.details.get("limit") == "disk":
                raise OSError(errno.ENOSPC, failure.message) from failure
            raise
        self.report(job, RAN, "storing the package", "store")
        with tracing.span("store"):
            self._end(job, deployment, output)

    def _deployment(self, job: PackageBuild) -> Deployment:
        """Raises: JobLost: nothing needs this build any more; it is removed."""
        stores = self.context.stores
        found = stores.deployments.get(job["_id"])
        if found is not None and found["revision"] == job["revision"] and found["status"] in SERVED:
            return found
        stores.database.transaction(
            lambda session: stores.package_builds.discard(job["_id"], session, job["revision"])
        )
        raise JobLost

    def _end(self, job: PackageBuild, deployment: Deployment, output: Path) -> None:
        stores, token = self.context.stores, job["lease"]["token"]
        with output.open("rb") as file:
            package = stores.blobs.write(iter(lambda: file.read(1 << 20), b""), limit_bytes=_LIMIT)

        def finish(reference: Fields, session: Session) -> bool:
            present = stores.deployments.get(job["_id"], session)
            return (
                present is not None
                and present["revision"] == job["revision"]
                and stores.package_builds.complete(job["_id"], token, {}, session)
                and stores.package_builds.deliver(present, cast(BlobReference, reference["package"]), session)
            )

        try:
            self.end(job, finish, package, _described(deployment))
        except JobLost:
            self._deployment(job)
            raise
        self._log(job, "info", "built", f"The package of revision {job['revision']} is ready.")

    def fail(self, job: PackageBuild, failure: ConversionError, workspace: Path | None = None) -> None:
        stores, message = self.context.stores, as_field(failure.message)

        def finish(_: Fields, session: Session) -> bool:
            token = job["lease"]["token"]
            if not stores.package_builds.fail(
                job["_id"], token, code=failure.code, message=message, session=session
            ):
                return False
            stores.serving_reports.fail_revision(job["_id"], job["revision"], message, session)
            return True

        self.end(job, finish)
        self._log(job, "error", "failed", message)

    def _log(self, job: PackageBuild, level: str, event: str, message: str) -> None:
        self.context.stores.deployment_logs.insert(
            [
                {
                    "deployment_id": job["_id"],
                    "at": now(),
                    "level": level,
                    "event": f"package_{event}",
                    "message": message,
                    "server": self.context.worker,
                }
            ]
        )


def _described(deployment: Deployment) -> Fields:
    """Return the description of the package's blob, as ``storage.blobs.descriptions`` has it."""
    return {
        "filename": f"{deployment['name']}.zip",
        "contentType": "application/zip",
        "metadata.model_name": deployment["model_name"],
        "metadata.version": deployment["model_version"],
        "metadata.created_at": deployment["created_at"],
        "metadata.upload_date": deployment["created_at"],
        "metadata.content_type": "application/zip",
    }
