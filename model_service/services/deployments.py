"""Deployments: which packages may be served, and with which key."""

import hashlib
import secrets
import uuid

from exporters.base import VERIFIED
from model_service.config import Settings
from model_service.deployers import AVAILABLE, deployer_for
from model_service.errors import NotFound, NotVerified, UnsupportedOption
from model_service.services.exports import ExportService
from model_service.services.ids import parse_uuid
from model_service.services.paging import Page
from model_service.states import DeploymentStatus, DeploymentType, ExportStatus
from model_service.storage.blobs import Blobs
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.deployments import Deployments


class DeploymentService:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        deployments: Deployments,
        blobs: Blobs,
        exports: ExportService,
    ) -> None:
        self._settings = settings
        self._database = database
        self._deployments = deployments
        self._blobs = blobs
        self._exports = exports

    def create(
        self,
        *,
        export_job_id: str,
        deployment_type: DeploymentType,
        name: str,
        description: str | None,
        config: Document,
    ) -> tuple[Document, str]:
        """Store a pending deployment, which its target takes up. Returns it with its key, which is not kept.

        Raises:
            MalformedId, NotFound: of the export job.
            UnsupportedOption: nothing deploys to this type, or with this ``config``.
            NotVerified: the export is not completed, or was not proven.
        """
        if deployment_type not in AVAILABLE:
            raise UnsupportedOption(
                f"Deployments of type {deployment_type} are not offered.", allowed=list(AVAILABLE)
            )
        if config:
            raise UnsupportedOption("config offers nothing yet: leave it out.", field="config", allowed=[])
        job = self._exports.get(export_job_id)
        verdict = (job.get("fidelity") or {}).get("verdict")
        if job["status"] != ExportStatus.COMPLETED or verdict != VERIFIED:
            raise NotVerified(
                f"Export job {export_job_id} is {job['status']} with verdict {verdict}: only a completed "
                "export that was verified against its source is deployed.",
                status=job["status"],
                verdict=verdict,
            )
        endpoints = deployer_for(deployment_type, self._settings)
        deployment_id = str(uuid.uuid4())
        at = now()
        deployment: Document = {
            "_id": deployment_id,
            "export_job_id": job["_id"],
            "deployment_type": deployment_type,
            "name": name,
            "description": description,
            "config": config,
            "status": DeploymentStatus.PENDING,
            "endpoint_url": endpoints.endpoint_url(deployment_id),
            "model_version": job["model_version"],
            "package": job["package"],
            "request_count": 0,
            "last_request_at": None,
            "total_inference_time_ms": 0.0,
            "created_at": at,
            "updated_at": at,
        }
        api_key, key = _new_key(deployment_id)

        def work(session: Session) -> None:
            if not self._blobs.retain(job["package"]["file_id"], session):
                raise NotFound("package of export job", export_job_id)
            self._deployments.insert(deployment, key, session)

        self._database.transaction(work)
        return deployment, api_key

    def get(self, deployment_id: str) -> Document:
        """Raises: MalformedId, NotFound."""
        deployment = self._deployments.get(parse_uuid("deployment", deployment_id))
        if deployment is None:
            raise NotFound("deployment", deployment_id)
        return deployment

    def search(self, *, status: DeploymentStatus | None, page: int, limit: int) -> Page:
        query: Document = {} if status is None else {"status": status}
        items, total = self._deployments.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def delete(self, deployment_id: str) -> None:
        """Stop serving it and forget its keys; the history stays.

        Raises:
            MalformedId, NotFound.
        """
        wanted = parse_uuid("deployment", deployment_id)

        def work(session: Session) -> bool:
            gone = self._deployments.delete(wanted, session)
            if gone is not None:
                self._blobs.release(gone["package"]["file_id"], session)
            return gone is not None

        if not self._database.transaction(work):
            raise NotFound("deployment", deployment_id)


def _new_key(deployment_id: str) -> tuple[str, Document]:
    """A key and what is kept of it. 256 random bits need no slow hash: there is nothing to guess."""
    api_key = f"pk_{secrets.token_urlsafe(32)}"
    return api_key, {
        "deployment_id": deployment_id,
        "prefix": api_key[:10],
        "sha256": hashlib.sha256(api_key.encode()).hexdigest(),
        "created_at": now(),
    }
