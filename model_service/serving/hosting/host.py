"""The set of deployments that this process serves, kept in sync with MongoDB.

A background thread polls twice a second, and another one loads. A request never waits for them: it looks up
its deployment in a dictionary that is replaced as a whole, and keeps that object until it is answered. While
MongoDB is unavailable, loaded deployments are still served; so is the previous revision while a newer one
loads.

Several servers may host the same deployments. An error of the package itself fails its deployment, if no
server has made it active, or its update. Any other error concerns one server only: it is logged, listed by
``failing``, and the load is retried.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import structlog

from exporters.errors import PackageCorrupt
from model_service.serving.accounting.keys import Keys
from model_service.serving.common.warm_up import LoadFailed
from model_service.serving.engine.engine import Engine
from model_service.serving.hosting.loaded_deployment import LoadedDeployment, served_members, to_serve
from model_service.serving.hosting.loader import MAX_LOAD_ATTEMPTS, Loader, Outcome
from model_service.serving.hosting.store import PackageStore
from model_service.serving.model_hosts.groups import ModelHosts
from model_service.states import DeploymentStatus
from model_service.storage.blobs.blobs import BlobDamaged
from model_service.storage.common.db import CONNECTION_ERRORS, now
from model_service.storage.common.documents import BlobReference
from model_service.storage.deployments.documents import AutoScaling, DeploymentLogEntry, ServedDeployment
from model_service.storage.deployments.served import ServedDeployments
from model_service.storage.deployments.serving_reports import ServingReports

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5
_LATELY_S = 3.0
_SHADOW_LOG_S = 60.0
_PROVEN = (LoadFailed, PackageCorrupt, BlobDamaged)


@dataclass(frozen=True)
class Failure:
    revision: int
    times: int
    retry_at: float  # of time.monotonic()


class Host:
    """Hosts deployments. ``server`` names this server, without dots, and is the same after a restart."""

    def __init__(
        self,
        deployments: ServedDeployments,
        reports: ServingReports,
        store: PackageStore,
        engine: Engine,
        hosts: ModelHosts,
        *,
        server: str,
    ) -> None:
        self._deployments = deployments
        self._reports = reports
        self._server = server
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._loader = Loader(reports, store, engine, hosts, server=server, notify=self._wake.set)
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        # Replaced as a whole, by the host's thread only; requests read them.
        self._hosted: dict[str, LoadedDeployment] = {}
        self._by_name: dict[str, list[LoadedDeployment]] = {}
        self._failures: dict[str, Failure] = {}
        self._served: dict[str, str] | None = None  # names by id
        self.wishes: list[AutoScaling] = []
        # Used by the host's thread only.
        self._loading: set[str] = set()
        self._awaited: set[str] | None = None
        self._kept: list[BlobReference] | None = None
        self._log_entries: list[DeploymentLogEntry] = []
        self.ready = threading.Event()
        # The time.monotonic() of the last successful query of the served deployments
        self.read_at = -math.inf

    def start(self) -> None:
        self._loader.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop the threads."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._loader.stop()

    def find(self, name: str) -> Sequence[LoadedDeployment]:
        """Return the deployment with this id, or all with this name: names are not unique."""
        hosted = self._hosted.get(name)
        return (hosted,) if hosted is not None else self._by_name.get(name, ())

    def get(self, deployment_id: str) -> LoadedDeployment | None:
        return self._hosted.get(deployment_id)

    def hosted(self) -> list[LoadedDeployment]:
        return list(self._hosted.values())

    @property
    def names(self) -> Mapping[str, str] | None:
        """Return the names of the deployments to serve, loaded or not, by id; None before the first query."""
        return self._served

    def expects(self, name: str) -> bool:
        """Return whether ``find`` may find it later: it is to be served, or MongoDB was not queried yet."""
        served = self._served
        return served is None or name in served or name in served.values()

    @property
    def connected(self) -> bool:
        """Return whether MongoDB answered recently: one that hangs raises no error for a long time."""
        return time.monotonic() < self.read_at + _LATELY_S

    @property
    def failing(self) -> list[str]:
        """Return the deployments that could not be loaded here; each load is retried."""
        return sorted(self._failures)

    def __len__(self) -> int:
        return len(self._hosted)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._sync()
            except CONNECTION_ERRORS as exc:
                self.read_at = -math.inf
                log.warning("serving.database_away", error=str(exc))
            except Exception:
                log.exception("serving.sync_failed")
            self._wake.wait(INTERVAL_S)
            self._wake.clear()

    def _sync(self) -> None:
        """Load new deployments, forget removed ones, and write the results to MongoDB."""
        # Before the query, so that it returns data written after these loads ended.
        while (outcome := self._loader.outcome()) is not None:
            self._settle(outcome)
        started_at = time.monotonic()
        found = self._deployments.read()
        names = {deployment["_id"]: deployment["name"] for deployment in found}
        self._served = names  # before read_at: a request that sees the new time sees these names
        self.read_at = started_at  # not later: changes during the query may be missing
        served = [to_serve(deployment) for deployment in found]
        self._forget_all_but(names.keys())
        if self._awaited is None:
            self._awaited = {each["_id"] for each in served if each["status"] == DeploymentStatus.ACTIVE}
        # Deployments that crashed this server before are loaded last.
        for deployment in sorted(served, key=self._loader.crashes):
            self._each(deployment["_id"], partial(self._follow, deployment))
        for hosted in self.hosted():
            self._each(hosted.id, partial(self._judge, hosted))
            self._each(hosted.id, partial(self._suspend, hosted))
            self._log_shadow(hosted)
        self._awaited = {each for each in self._awaited if self._is_awaited(each)}
        if not self._awaited:
            self.ready.set()
        self.wishes = [deployment["config"]["auto_scaling"] for deployment in served]
        references = [member["package"] for deployment in served for member in served_members(deployment)]
        if references != self._kept:
            self._loader.keep_only(references)
            self._kept = references
        if self._log_entries:
            self._reports.log(self._log_entries)
            self._log_entries = []

    def _each(self, deployment_id: str, work: Callable[[], None]) -> None:
        """Run one deployment's work; its errors do not prevent others from being served."""
        try:
            work()
        except CONNECTION_ERRORS:
            raise
        except Exception:
            log.exception("serving.sync_failed", deployment_id=deployment_id)

    def _replace(self, hosted: dict[str, LoadedDeployment]) -> None:
        by_name = defaultdict(list)
        for each in hosted.values():
            by_name[each.name].append(each)
        self._by_name = dict(by_name)
        self._hosted = hosted

    def _forget_all_but(self, served: Set[str]) -> None:
        gone = self._hosted.keys() - served
        if gone:
            self._replace({key: hosted for key, hosted in self._hosted.items() if key not in gone})
            log.info("serving.removed", deployments=sorted(gone))
        self._failures = {key: failure for key, failure in self._failures.items() if key in served}

    def _follow(self, deployment: ServedDeployment) -> None:
        deployment_id, revision = deployment["_id"], deployment["revision"]
        hosted = self._hosted.get(deployment_id)
        if hosted is not None:
            keys, tier = Keys(deployment["keys"]), deployment.get("owner_tier")
            if (keys, tier) != (hosted.keys, hosted.tier):
                self._replace(self._hosted | {deployment_id: replace(hosted, keys=keys, tier=tier)})
        if hosted is None or hosted.revision != revision:
            failure = self._failures.get(deployment_id)
            waits = (
                failure is not None and failure.revision == revision and time.monotonic() < failure.retry_at
            )
            if deployment_id not in self._loading and not waits:
                self._loading.add(deployment_id)
                self._loader.submit(deployment)
        elif deployment["status"] != DeploymentStatus.ACTIVE or deployment["live_revision"] != revision:
            self._reports.made_live(deployment_id, revision)

    def _judge(self, hosted: LoadedDeployment) -> None:
        """Roll back to the previous revision if this one violates its limits."""
        violation = hosted.guard.verdict() if hosted.guard is not None else None
        if violation is None:
            return
        reason, data = str(violation), {**asdict(violation), "server": self._server}
        if self._reports.roll_back_to_former(hosted.id, hosted.revision, reason, data):
            self._log_event(hosted.id, "warning", "rolled_back", reason, revision=hosted.revision)

    def _suspend(self, hosted: LoadedDeployment) -> None:
        """Stop serving a deployment if several callers' requests ended its model's process."""
        reason = hosted.kills.verdict()
        if reason is not None and self._reports.suspend(hosted.id, hosted.revision, reason):
            self._log_event(hosted.id, "error", "suspended", reason, revision=hosted.revision)

    def _log_shadow(self, hosted: LoadedDeployment) -> None:
        """Log the shadow's counts once a minute, if they changed."""
        shadow = hosted.shadow
        due = shadow is not None and time.monotonic() > shadow.logged_at + _SHADOW_LOG_S
        if shadow is None or not due or (counts := shadow.counts) == shadow.logged_counts:
            return
        shadow.logged_counts, shadow.logged_at = dict(counts), time.monotonic()
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in shadow.logged_counts.items())
        message = f"Results of the shadow {shadow.model.model_version} since revision {hosted.revision}: "
        self._log_event(hosted.id, "info", "shadow", f"{message}{outcomes}.", **shadow.logged_counts)

    def _settle(self, outcome: Outcome) -> None:
        deployment_id, revision = outcome.deployment["_id"], outcome.deployment["revision"]
        self._loading.discard(deployment_id)
        match outcome.result:
            case LoadedDeployment() as hosted:
                before = self._hosted.get(deployment_id)
                if before is not None:
                    # The limit belongs to the deployment, not to a revision, and the keys may have changed
                    # during the load.
                    hosted = replace(hosted, flight=before.flight, keys=before.keys, tier=before.tier)
                self._replace(self._hosted | {deployment_id: hosted})
                self._failures = {key: each for key, each in self._failures.items() if key != deployment_id}
                versions = ", ".join(member.model_version for member in hosted.route.members)
                self._log_event(
                    deployment_id, "info", "loaded", f"Revision {revision} is served: {versions}."
                )
            case error:
                self._note_failure(deployment_id, revision, error)

    def _note_failure(self, deployment_id: str, revision: int, error: Exception) -> None:
        proven = isinstance(error, _PROVEN)
        former = self._failures.get(deployment_id)
        times = former.times + 1 if former is not None and former.revision == revision else 1
        retry_in_s = 2 ** min(times - 1, 5)
        failure = Failure(revision, times, time.monotonic() + retry_in_s)
        self._failures = {**self._failures, deployment_id: failure}
        log.warning("serving.load_failed", deployment_id=deployment_id, exc_info=None if proven else error)
        self._log_event(deployment_id, "error", "load_failed", str(error), retry_in_s=retry_in_s)
        if proven:
            self._reports.update_failed(deployment_id, revision, str(error))

    def _log_event(self, deployment_id: str, level: str, event: str, message: str, **details: Any) -> None:
        """Add an entry to the deployment's own log; the next round writes it."""
        log.info(f"serving.{event}", deployment_id=deployment_id, message=message, **details)
        self._log_entries.append(
            {
                "deployment_id": deployment_id,
                "at": now(),
                "level": level,
                "event": event,
                "message": message,
                "server": self._server,
                "details": details,
            }
        )

    def _is_awaited(self, deployment_id: str) -> bool:
        """Return whether the server waits for it to be ready: not after MAX_LOAD_ATTEMPTS failures."""
        failure = self._failures.get(deployment_id)
        abandoned = failure is not None and failure.times >= MAX_LOAD_ATTEMPTS
        served = self._served is not None and deployment_id in self._served
        return served and deployment_id not in self._hosted and not abandoned
