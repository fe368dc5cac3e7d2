"""Deployments: which packages may be served, and with which key."""

import base64
import hashlib
import hmac
import secrets
import uuid

from exporters.base import VERIFIED
from model_service.actor import Permission, may_read, require
from model_service.config import Settings
from model_service.deployers import AVAILABLE, deployer_for
from model_service.errors import NotFound, NotVerified, UnsupportedOption
from model_service.services.exports import ExportService
from model_service.services.idempotency import Idempotency, Note, Once
from model_service.services.ids import parse_uuid
from model_service.services.paging import Page, readable
from model_service.services.signing import Signing
from model_service.states import DeploymentStatus, DeploymentType, ExportStatus
from model_service.storage.audit import Audit
from model_service.storage.blobs import Blobs
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.deployments import Deployments

KEY_PREFIX = "pk_"


class DeploymentService:
    def __init__(
        self,
        settings: Settings,
        database: Database,
        deployments: Deployments,
        blobs: Blobs,
        exports: ExportService,
        idempotency: Idempotency,
        signing: Signing,
    ) -> None:
        self._settings = settings
        self._database = database
        self._deployments = deployments
        self._blobs = blobs
        self._exports = exports
        self._idempotency = idempotency
        self._signing = signing
        self._audit = Audit(database)

    def create(
        self,
        *,
        export_job_id: str,
        deployment_type: DeploymentType,
        name: str,
        description: str | None,
        config: Document,
        once: Once | None = None,
    ) -> tuple[Document, str]:
        """Store a pending deployment, which its target takes up. Returns it with its key, which is not kept.

        With ``once`` the key is derived from the request's own, so that its repetition can be told it too.

        Raises:
            MalformedId, NotFound: of the export job.
            NotPermitted: by somebody who may not deploy its model.
            UnsupportedOption: nothing deploys to this type, or with this ``config``.
            NotVerified: the export is not completed, or was not proven.
        """
        if deployment_type not in AVAILABLE:
            raise UnsupportedOption(
                f"Deployments of type {deployment_type} are not offered.", allowed=list(AVAILABLE)
            )
        if config:
            raise UnsupportedOption("config offers nothing yet: leave it out.", field="config", allowed=[])

        def make(note: Note) -> tuple[Document, str]:
            deployment, job = self._new_deployment(export_job_id, deployment_type, name, description, config)
            api_key = self._key_of(deployment["_id"], once)

            def work(session: Session) -> None:
                note(deployment["_id"], session)
                if not self._blobs.retain(job["package"]["file_id"], session):
                    raise NotFound("package of export job", export_job_id)
                self._deployments.insert(deployment, _kept(api_key, deployment["_id"]), session)
                self._record("created", deployment, session)

            self._database.transaction(work)
            return deployment, api_key

        def made(deployment_id: str) -> tuple[Document, str]:
            return self.get(deployment_id), self._key_of(deployment_id, once)

        return self._idempotency.run(once, make, made)

    def _new_deployment(
        self,
        export_job_id: str,
        deployment_type: DeploymentType,
        name: str,
        description: str | None,
        config: Document,
    ) -> tuple[Document, Document]:
        """The document, and the export job whose package it is of."""
        job = self._exports.get(export_job_id)
        require(Permission.DEPLOY, job["model_name"])
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
            "model_name": job["model_name"],
            "namespace": job["namespace"],
            "model_version": job["model_version"],
            "package": job["package"],
            "request_count": 0,
            "last_request_at": None,
            "total_inference_time_ms": 0.0,
            "created_at": at,
            "updated_at": at,
        }
        return deployment, job

    def _key_of(self, deployment_id: str, once: Once | None) -> str:
        """256 bits that nobody can guess: random, or of the deployment, the request's key and our secret."""
        if once is None:
            return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"
        digest = hmac.digest(
            self._signing.key("deployment-key"), f"{once.identity}\0{deployment_id}".encode(), "sha256"
        )
        return f"{KEY_PREFIX}{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def get(self, deployment_id: str) -> Document:
        """Raises: MalformedId, NotFound."""
        deployment = self._deployments.get(parse_uuid("deployment", deployment_id))
        if deployment is None or not may_read(deployment["model_name"]):
            raise NotFound("deployment", deployment_id)
        return deployment

    def search(self, *, status: DeploymentStatus | None, page: int, limit: int) -> Page:
        query = readable() | ({} if status is None else {"status": status})
        items, total = self._deployments.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def delete(self, deployment_id: str) -> None:
        """Stop serving it and forget its keys; the history stays.

        Raises:
            MalformedId, NotFound.
            NotPermitted: by somebody who may not deploy its model.
        """
        require(Permission.DEPLOY, self.get(deployment_id)["model_name"])
        wanted = parse_uuid("deployment", deployment_id)

        def work(session: Session) -> bool:
            gone = self._deployments.delete(wanted, session)
            if gone is not None:
                self._blobs.release(gone["package"]["file_id"], session)
                self._record("deleted", gone, session)
            return gone is not None

        if not self._database.transaction(work):
            raise NotFound("deployment", deployment_id)

    def _record(self, action: str, deployment: Document, session: Session) -> None:
        details = {field: deployment[field] for field in ("name", "export_job_id", "model_version")}
        subject, name = deployment["_id"], deployment["model_name"]
        self._audit.record(action, "deployment", subject, session=session, name=name, details=details)


def _kept(api_key: str, deployment_id: str) -> Document:
    """What is kept of a key. 256 bits need no slow hash: there is nothing to guess."""
    return {
        "deployment_id": deployment_id,
        "prefix": api_key[:10],
        "sha256": hashlib.sha256(api_key.encode()).hexdigest(),
        "created_at": now(),
    }
