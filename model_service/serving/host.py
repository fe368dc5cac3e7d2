"""The set of deployments this process serves, kept equal to MongoDB's.

A background thread asks twice a second, and another one loads. A request never waits for them: it looks its
deployment up in a dictionary that is replaced as a whole. While MongoDB is away, what is loaded goes on
serving.

Several servers may host the same deployments. What is proven of a package fails its deployment, if no server
has made it active; any other trouble is one server's own: it is logged, told by ``failing``, and tried again.
"""

import threading
import time
from dataclasses import dataclass, replace

import structlog

from exporters.errors import PackageCorrupt
from model_service.serving.hosted import Hosted, LoadFailed, key_hashes, package_id
from model_service.serving.loader import MAX_LOAD_ATTEMPTS, Loader, Outcome
from model_service.serving.store import PackageStore
from model_service.serving.usage import Usage
from model_service.states import DeploymentStatus
from model_service.storage.blobs import BlobDamaged
from model_service.storage.db import CONNECTION_ERRORS, Document, now
from model_service.storage.deployments import Deployments

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5
_PROVEN = (LoadFailed, PackageCorrupt, BlobDamaged)


@dataclass(frozen=True)
class Failure:
    times: int
    retry_at: float  # of time.monotonic()


class Host:
    """``server`` names this server, the same after a restart, without dots."""

    def __init__(self, deployments: Deployments, store: PackageStore, usage: Usage, *, server: str) -> None:
        self._deployments = deployments
        self._usage = usage
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._loader = Loader(deployments, store, server=server, notify=self._wake.set)
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        # Replaced as a whole, by the host's thread alone: requests read them.
        self._hosted: dict[str, Hosted] = {}
        self._failures: dict[str, Failure] = {}
        self._served: frozenset[str] | None = None
        # The host's thread alone.
        self._loading: set[str] = set()
        self._awaited: set[str] | None = None
        self._kept: list[Document] | None = None
        self.ready = threading.Event()
        self.connected = False

    def start(self) -> None:
        self._loader.start()
        self._thread.start()

    def stop(self) -> None:
        """End the threads. Usage that was counted is written first, if MongoDB is there."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._loader.stop()

    def find(self, deployment_id: str) -> Hosted | None:
        return self._hosted.get(deployment_id)

    def expects(self, deployment_id: str) -> bool:
        """Whether it may be found later: it is to be served, or MongoDB could not be asked yet."""
        return self._served is None or deployment_id in self._served

    @property
    def failing(self) -> list[str]:
        """The deployments that were to be loaded here and could not; each is tried again."""
        return sorted(self._failures)

    def __len__(self) -> int:
        return len(self._hosted)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._sync()
                self._usage.flush(self._deployments)
                self.connected = True
            except CONNECTION_ERRORS as exc:
                self.connected = False
                log.warning("serving.database_away", error=str(exc))
            except Exception:
                log.exception("serving.sync_failed")
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
        try:
            self._usage.flush(self._deployments)
        except Exception:
            log.exception("serving.usage_lost")

    def _sync(self) -> None:
        """Load what is new, forget what is gone, and say in MongoDB how it went."""
        # Before the query: what is read then was written after these loads had ended.
        while (outcome := self._loader.outcome()) is not None:
            self._settle(outcome)
        served = self._deployments.served()
        self._forget_all_but(frozenset(deployment["_id"] for deployment in served))
        if self._awaited is None:
            self._awaited = {each["_id"] for each in served if each["status"] == DeploymentStatus.ACTIVE}
        # What killed this server before waits until the others are served.
        for deployment in sorted(served, key=self._loader.crashes):
            try:
                self._follow(deployment)
            except CONNECTION_ERRORS:
                raise
            except Exception:
                log.exception("serving.sync_failed", deployment_id=deployment["_id"])
        self._awaited = {each for each in self._awaited if self._is_awaited(each)}
        if not self._awaited:
            self.ready.set()
        references = [deployment["package"] for deployment in served]
        if references != self._kept:
            self._loader.keep_only(references)
            self._kept = references

    def _forget_all_but(self, served: frozenset[str]) -> None:
        gone = self._hosted.keys() - served
        if gone:
            self._hosted = {key: hosted for key, hosted in self._hosted.items() if key not in gone}
            log.info("serving.removed", deployments=sorted(gone))
        self._failures = {key: failure for key, failure in self._failures.items() if key in served}
        self._served = served

    def _follow(self, deployment: Document) -> None:
        deployment_id = deployment["_id"]
        hosted = self._hosted.get(deployment_id)
        if hosted is not None and hosted.key_hashes != key_hashes(deployment):
            hosted = replace(hosted, key_hashes=key_hashes(deployment))
            self._hosted = {**self._hosted, deployment_id: hosted}
        if hosted is None or hosted.package_id != package_id(deployment):
            failure = self._failures.get(deployment_id)
            waits = failure is not None and time.monotonic() < failure.retry_at
            if deployment_id not in self._loading and not waits:
                self._loading.add(deployment_id)
                self._loader.submit(deployment)
        elif deployment["status"] != DeploymentStatus.ACTIVE:
            self._deployments.move(
                deployment_id, DeploymentStatus.ACTIVE, deployed_at=now(), error_message=None
            )

    def _settle(self, outcome: Outcome) -> None:
        deployment_id = outcome.deployment["_id"]
        self._loading.discard(deployment_id)
        match outcome.result:
            case Hosted() as hosted:
                self._hosted = {**self._hosted, deployment_id: hosted}
                self._failures = {key: each for key, each in self._failures.items() if key != deployment_id}
                log.info("serving.loaded", deployment_id=deployment_id, model_version=hosted.model_version)
            case error:
                self._note_failure(deployment_id, error)

    def _note_failure(self, deployment_id: str, error: Exception) -> None:
        proven = isinstance(error, _PROVEN)
        times = self._failures[deployment_id].times + 1 if deployment_id in self._failures else 1
        retry_in_s = 2 ** min(times - 1, 5)
        failure = Failure(times, time.monotonic() + retry_in_s)
        self._failures = {**self._failures, deployment_id: failure}
        log.warning(
            "serving.load_failed",
            deployment_id=deployment_id,
            error=str(error),
            retry_in_s=retry_in_s,
            exc_info=None if proven else error,
        )
        if not proven:
            return
        present = self._deployments.get(deployment_id)
        if present is not None and present["status"] != DeploymentStatus.ACTIVE:
            self._deployments.move(deployment_id, DeploymentStatus.FAILED, error_message=str(error))

    def _is_awaited(self, deployment_id: str) -> bool:
        """Whether it keeps the server from being ready: not once it failed as often as we have patience."""
        failure = self._failures.get(deployment_id)
        given_up = failure is not None and failure.times >= MAX_LOAD_ATTEMPTS
        served = self._served is not None and deployment_id in self._served
        return served and deployment_id not in self._hosted and not given_up
