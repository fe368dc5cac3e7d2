"""Downloads of the packages of deployments without an endpoint."""

from datetime import timedelta

from model_service.actor import Permission, require
from model_service.errors import Conflict, NotFound, SignatureInvalid
from model_service.services.deployments.deployments import DeploymentService
from model_service.services.files.files import StoredFile
from model_service.states import DeploymentStatus, DeploymentType
from model_service.storage.blobs.blobs import blob_of
from model_service.storage.common.db import Session, now
from model_service.storage.deployments.documents import Delivery, Deployment
from model_service.storage.stores import Stores


class PackageDownloads:
    def __init__(self, stores: Stores, deployments: DeploymentService) -> None:
        self._stores = stores
        self._find = deployments.get

    def open(self, deployment: Deployment, address: int | None = None) -> StoredFile:
        """Open the package of the live revision.

        Args:
            address: of a signed URL; None: the caller has a credential.

        Raises:
            SignatureInvalid: the deployment was deactivated since the URL was signed.
            Conflict: the deployment has an endpoint instead of a package, or is not active.
        """
        delivery, status = _delivery(deployment), deployment["status"]
        if address is not None and address != delivery["address"]:
            raise SignatureInvalid(
                "The URL was revoked when its deployment was deactivated: request the deployment again."
            )
        if status != DeploymentStatus.ACTIVE:
            raise Conflict(
                f"Deployment {deployment['name']} is {status} and has no package to download.", status=status
            )
        live = next(
            each for each in deployment["revisions"] if each["revision"] == deployment["live_revision"]
        )
        member = live["routing"]["members"][0]
        reference = delivery.get("package", member["package"])
        suffix = (
            "container"
            if deployment["deployment_type"] == DeploymentType.CONTAINER
            else live["config"].get("target_platform") or member["format"]
        )
        name = f"{deployment['name']}-{member['model_version']}-{suffix}.zip"
        return StoredFile.of(blob_of(reference), name, self._stores.blobs, "application/zip")

    def count(self, deployment: Deployment) -> None:
        """Count the start of a download."""
        self._stores.deployments.count_download(deployment["_id"])

    def renew(self, deployment_id: str, expires_in_s: int | None) -> Deployment:
        """Let the package be downloaded without a credential for ``expires_in_s`` from now.

        None: for the time in the deployment's configuration. URLs that were given out before keep their end.

        Raises:
            NotFound, NotPermitted.
            Conflict: the deployment has an endpoint instead of a package, or is not active.
        """
        found = self._find(deployment_id)
        require(Permission.DEPLOY, found["model_name"])

        def work(session: Session) -> Deployment:
            before = self._stores.deployments.get(found["_id"], session)
            if before is None:
                raise NotFound("deployment", deployment_id)
            _delivery(before)
            if before["status"] != DeploymentStatus.ACTIVE:
                raise Conflict(
                    f"Deployment {before['name']} is {before['status']}: only the URL of an active one "
                    "can be renewed.",
                    status=before["status"],
                )
            expires_at = now() + timedelta(seconds=expires_in_s or before["config"]["expires_in_s"])
            after = self._stores.deployments.renew(before, expires_at, session)
            self._stores.audit.record(
                "renewed",
                "deployment",
                before["_id"],
                session=session,
                name=before["model_name"],
                details={"expires_at": expires_at},
            )
            return after

        return self._stores.database.transaction(work)


def _delivery(deployment: Deployment) -> Delivery:
    """Raises: Conflict: the deployment has an endpoint instead of a package."""
    if "delivery" not in deployment:
        raise Conflict(
            f"Deployment {deployment['name']} serves an endpoint and has no package: download the package of "
            f"its export job {deployment['export_job_id']}."
        )
    return deployment["delivery"]
