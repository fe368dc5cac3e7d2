"""The set of deployments this process serves, kept equal to MongoDB's.

A background thread asks twice a second. A request never waits for it: it looks its deployment up in a
dictionary that is replaced as a whole. While MongoDB is away, what is loaded goes on serving.
"""

import threading
from dataclasses import replace

import structlog

from exporters.errors import ExportError
from model_service.serving.hosted import Hosted, LoadFailed, key_hashes, load, package_id
from model_service.serving.store import PackageStore
from model_service.serving.usage import Usage
from model_service.states import DeploymentStatus
from model_service.storage.blobs import BlobDamaged
from model_service.storage.db import CONNECTION_ERRORS, Document, now
from model_service.storage.deployments import Deployments

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5


class Host:
    def __init__(self, deployments: Deployments, store: PackageStore, usage: Usage) -> None:
        self._deployments = deployments
        self._store = store
        self._usage = usage
        self._hosted: dict[str, Hosted] = {}
        self._known: list[Document] = []
        self._stop = threading.Event()
        self.ready = threading.Event()
        self.connected = False
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; usage that was counted is written first."""
        self._stop.set()
        self._thread.join()

    def find(self, deployment_id: str) -> Hosted | None:
        return self._hosted.get(deployment_id)

    def __len__(self) -> int:
        return len(self._hosted)

    def _run(self) -> None:
        while True:
            try:
                self.sync()
                self._usage.flush(self._deployments)
                self.connected = True
                self.ready.set()
            except CONNECTION_ERRORS as exc:
                self.connected = False
                log.warning("serving.database_away", error=str(exc))
            except Exception:
                log.exception("serving.sync_failed")
            if self._stop.wait(INTERVAL_S):
                return

    def sync(self) -> None:
        """Load what is new, forget what is gone, and say in MongoDB how it went."""
        served = self._deployments.served()
        gone = self._hosted.keys() - {deployment["_id"] for deployment in served}
        if gone:
            self._hosted = {key: hosted for key, hosted in self._hosted.items() if key not in gone}
            log.info("serving.removed", deployments=sorted(gone))
        for deployment in served:
            self._sync_one(deployment)
        references = [deployment["package"] for deployment in served]
        if references != self._known:
            self._store.keep_only(references)
            self._known = references

    def _sync_one(self, deployment: Document) -> None:
        deployment_id = deployment["_id"]
        hosted = self._hosted.get(deployment_id)
        if hosted is None or hosted.package_id != package_id(deployment):
            if deployment["status"] == DeploymentStatus.PENDING:
                self._deployments.move(deployment_id, DeploymentStatus.DEPLOYING)
            try:
                hosted = load(deployment, self._store.fetch(deployment["package"]))
            except CONNECTION_ERRORS:
                raise
            except Exception as exc:
                known = isinstance(exc, LoadFailed | ExportError | BlobDamaged)
                log.warning(
                    "serving.load_failed", deployment_id=deployment_id, exc_info=not known, error=str(exc)
                )
                message = (
                    str(exc) if known else "The inference server failed to load it; its log has the reason."
                )
                self._deployments.move(deployment_id, DeploymentStatus.FAILED, error_message=message)
                return
            self._hosted = {**self._hosted, deployment_id: hosted}
            log.info("serving.loaded", deployment_id=deployment_id, model_version=hosted.model_version)
        elif hosted.key_hashes != key_hashes(deployment):
            hosted = replace(hosted, key_hashes=key_hashes(deployment))
            self._hosted = {**self._hosted, deployment_id: hosted}
        if deployment["status"] != DeploymentStatus.ACTIVE:
            self._deployments.move(
                deployment_id, DeploymentStatus.ACTIVE, deployed_at=now(), error_message=None
            )
