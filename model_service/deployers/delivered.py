"""Targets without an endpoint: users download a package and run it themselves."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from model_service import tracing
from model_service.deployers.recorded import Recorded
from model_service.states import SERVED, DeploymentType
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import JobSource, new_file, new_job
from model_service.storage.deployments.documents import Deployment, PackageBuild
from model_service.storage.deployments.package_builds import SourceGone
from model_service.storage.deployments.revisions import built_of
from model_service.storage.stores import Stores

_ZIP = "application/zip"
_GONE = "The package of an export is not stored any more: deploy another export."


class Delivered(Recorded, ABC):
    has_endpoint = False

    def create(self, deployment: Deployment) -> None:
        self.update(deployment)

    @abstractmethod
    def update(self, deployment: Deployment) -> None: ...

    def scale(self, deployment: Deployment) -> None:
        raise NotImplementedError(f"a deployment of type {deployment['deployment_type']} has no replicas")

    def delete(self, deployment_id: str) -> None:
        pass

    def endpoint_url(self, deployment_id: str, registry_url: str) -> str | None:
        return None


class Download(Delivered):
    """The package of one export, as it is stored."""

    type = DeploymentType.DOWNLOAD

    def update(self, deployment: Deployment) -> None:
        builds = self.stores.package_builds
        self.stores.database.transaction(lambda session: builds.deliver(deployment, None, session))


class BuiltPackage(Delivered):
    """A package that a worker builds from the packages of one export or two."""

    def __init__(self, kind: DeploymentType, stores: Stores, enqueue: Callable[[str], None]) -> None:
        """``enqueue`` is called with the id of a deployment whose package is to be built."""
        super().__init__(stores)
        self.type = kind
        self._enqueue = enqueue

    def update(self, deployment: Deployment) -> None:
        if deployment["status"] in SERVED and self.stores.package_builds.under_way(deployment):
            return
        database, reports = self.stores.database, self.stores.serving_reports
        try:
            if database.transaction(lambda session: self._update(deployment["_id"], session)):
                self._enqueue(deployment["_id"])
        except SourceGone:
            reports.update_failed(deployment["_id"], deployment["revision"], _GONE)

    def _update(self, deployment_id: str, session: Session) -> bool:
        """Begin a build if the newest revision needs one. Returns whether it did. Raises: SourceGone."""
        stores, builds = self.stores, self.stores.package_builds
        # The lock serialises concurrent calls: the later one finds the build of the earlier one.
        deployment = stores.deployments.hold(deployment_id, session)
        if deployment is None or deployment["status"] not in SERVED:
            builds.discard(deployment_id, session)
            return False
        if deployment["live_revision"] == deployment["revision"] and built_of(deployment):
            builds.deliver(deployment, None, session)
            return False
        if builds.under_way(deployment, session):
            return False
        builds.begin(_build(deployment), session)
        return True

    def delete(self, deployment_id: str) -> None:
        builds = self.stores.package_builds
        self.stores.database.transaction(lambda session: builds.discard(deployment_id, session))


def _build(deployment: Deployment) -> PackageBuild:
    """Return a pending build of the newest revision."""
    members = deployment["routing"]["members"]
    files = [new_file(f"{member['name']}.zip", member["package"], _ZIP) for member in members]
    source: JobSource = {
        "filename": files[0]["path"],
        "size_bytes": sum(file["size_bytes"] for file in files),
        "checksum": files[0]["checksum"],
        "files": files,
        "primary": files[0]["path"],
    }
    build = {
        **new_job(deployment["user_id"], now(), trace=tracing.current()),
        "_id": deployment["_id"],
        "namespace": deployment["namespace"],
        "source": source,
        "revision": deployment["revision"],
        "deployment_type": deployment["deployment_type"],
        "model_name": deployment["model_name"],
        "config": deployment["config"],
    }
    return cast(PackageBuild, build)
