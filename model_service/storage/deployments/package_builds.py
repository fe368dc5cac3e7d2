"""The package_builds collection: the jobs that build packages. A deployment has at most one, with its id.

A build belongs to one revision of its deployment. A build of another revision replaces it, and its worker
notices that at its lease.
"""

from datetime import timedelta

from model_service.states import SERVED, JobStatus
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import BlobReference, Fields, blobs_of
from model_service.storage.common.job_turns import JobTurns
from model_service.storage.common.leased_jobs import LeasedJobs
from model_service.storage.deployments.documents import Deployment, OfferedExport, PackageBuild
from model_service.storage.deployments.revisions import built_of
from model_service.storage.deployments.serving_reports import ServingReports

_UNFINISHED = [status.value for status in JobStatus if not status.final]


class SourceGone(Exception):
    """A package that a build reads is not stored."""


class PackageBuilds(LeasedJobs[PackageBuild]):
    def __init__(self, database: Database, blobs: Blobs, reports: ServingReports) -> None:
        super().__init__(database, database.package_builds, None)
        self._deployments = database.deployments
        self._blobs = blobs
        self._reports = reports

    def under_way(self, deployment: Deployment, session: Session | None = None) -> bool:
        """Return whether the deployment's newest revision is being built."""
        build = self.get(deployment["_id"], session)
        return build is not None and build["revision"] == deployment["revision"] and not _ended(build)

    def begin(self, build: PackageBuild, session: Session) -> None:
        """Store a pending build instead of any earlier one.

        Raises:
            SourceGone: a package that it reads is not stored; the transaction must be aborted.
        """
        if not self._blobs.retain_all(blobs_of(build), session):
            raise SourceGone
        self.discard(build["_id"], session)
        self._jobs.insert_one(build, session=session)

    def discard(self, deployment_id: str, session: Session, revision: int | None = None) -> None:
        """Remove the build of a deployment, if there is one. Its worker stores nothing any more.

        Args:
            revision: only a build of this revision; None: of any.
        """
        query: Fields = {"_id": deployment_id, **({} if revision is None else {"revision": revision})}
        build = self._jobs.find_one_and_delete(query, session=session)
        if build is not None and not _ended(build):
            self._blobs.release_all(blobs_of(build), session)

    def deliver(self, deployment: Deployment, package: BlobReference | None, session: Session) -> bool:
        """Make a revision live, for a download until the time that its configuration says.

        Returns False if the revision is no longer the newest, the deployment is not to be active, or the
        revision is live already; nothing was changed then.

        Args:
            package: the zip that was built, and is published in this transaction. None: the revision needs
                none, or has the stored one.
        """
        expires_at = now() + timedelta(seconds=deployment["config"]["expires_in_s"])
        offered: list[OfferedExport] = [
            {
                "export_job_id": member["export_job_id"],
                "format": member["format"],
                "verdict": member["verdict"],
            }
            for member in deployment["routing"]["members"]
        ]
        more: dict[str, object] = {
            "delivery.expires_at": expires_at,
            "delivery.offered": offered,
            "delivery.due": False,
        }
        if package is not None:
            more["delivery.package"] = package
        if not self._reports.make_live(deployment["_id"], deployment["revision"], session, more):
            return False
        if package is not None:
            self._blobs.release_all(built_of(deployment), session)
        return True

    def missing(self) -> list[Deployment]:
        """Return deployments without an endpoint whose newest revision is neither live nor being built."""
        building = {
            "from": "package_builds",
            "localField": "_id",
            "foreignField": "_id",
            "as": "build",
            "pipeline": [{"$match": {"status": {"$in": _UNFINISHED}}}, {"$project": {"revision": True}}],
        }
        found = self._deployments.aggregate(
            [
                {"$match": {"delivery.due": True, "status": {"$in": SERVED}}},
                {"$lookup": building},
                {"$match": {"$expr": {"$not": [{"$in": ["$revision", "$build.revision"]}]}}},
                {"$unset": "build"},
                {"$limit": 1000},
            ]
        )
        return list(rows(found, Deployment))


class PackageBuildTurns(JobTurns[PackageBuild]):
    def __init__(self, database: Database) -> None:
        super().__init__(database, database.package_builds, None)


def _ended(build: PackageBuild) -> bool:
    return JobStatus(build["status"]).final
