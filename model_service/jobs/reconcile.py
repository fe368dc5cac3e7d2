"""The reconciler: enqueues jobs that the queue lost, and recovers jobs from dead workers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import structlog

from model_service.deployers import build_deployers
from model_service.jobs.build_package import build_package
from model_service.jobs.context import Context
from model_service.jobs.evaluate import evaluate
from model_service.jobs.export import export
from model_service.jobs.inspect import inspect
from model_service.jobs.queue import EVALUATIONS, EXPORTS, INSPECTIONS, PACKAGE_BUILDS, SCANS, Queue
from model_service.jobs.scan import scan
from model_service.metrics import LEASES_LOST, count_failure
from model_service.states import DeploymentType, JobErrorCode
from model_service.storage.common.db import CONNECTION_ERRORS, Session
from model_service.storage.common.documents import blobs_of
from model_service.storage.common.job_turns import JobTurns
from model_service.storage.common.leased_jobs import J
from model_service.storage.deployments.documents import Deployment, PackageBuild
from model_service.storage.evaluations.documents import Evaluation
from model_service.storage.exports.documents import ExportJob
from model_service.storage.stores import Stores

log = structlog.get_logger(__name__)

INTERVAL_S = 2.0


@dataclass(frozen=True)
class _Recovered(Generic[J]):
    """Jobs of one kind, and the queue and function that run them."""

    kind: str
    queue_name: str
    function: Callable[[str], None]
    turns: JobTurns[J]
    given_up: Callable[[J, str, Session], object] = lambda job, message, session: None

    def reconcile(self, queue: Queue, context: Context, *, take: bool) -> None:
        """Recover the jobs.

        Args:
            take: whether other workers have had time to renew their leases.
        """
        settings = context.settings
        most = settings.job_max_attempts
        for job in self.turns.exhausted(most, grace_s=settings.job_lease_s):
            self._give_up(job, context.stores)
        if take:
            self.turns.take_from_lost_workers(most, spared=context.worker, grace_s=INTERVAL_S)
        queue.enqueue_missing(self.queue_name, self.function, self.turns.waiting(most))

    def _give_up(self, job: J, stores: Stores) -> None:
        message = (
            f"The worker was lost {job['attempts']} times while it ran this {self.kind}. It may need more "
            "memory than EXPORT_MEMORY or the machine allows; see the job's log."
        )

        def work(session: Session) -> bool:
            given_up = self.turns.give_up(job, JobErrorCode.WORKER_LOST, message, session)
            if given_up:
                self.given_up(job, message, session)
                stores.blobs.release_all(blobs_of(job), session)
            return given_up

        if stores.database.transaction(work):
            LEASES_LOST.inc()
            if self.queue_name == EXPORTS:
                count_failure(JobErrorCode.WORKER_LOST)


class Reconciler:
    """A background thread of every worker. Several may run, since a job is claimed only once."""

    def __init__(self, context: Context, queue: Queue) -> None:
        self._context = context
        self._stores = context.stores
        reports = context.stores.serving_reports

        def fail(build: PackageBuild, message: str, session: Session) -> None:
            reports.fail_revision(build["_id"], build["revision"], message, session)

        self._recovered: tuple[_Recovered[ExportJob], _Recovered[Evaluation], _Recovered[PackageBuild]] = (
            _Recovered("export", EXPORTS, export, context.stores.export_turns),
            _Recovered("evaluation", EVALUATIONS, evaluate, context.stores.evaluation_turns),
            _Recovered("build", PACKAGE_BUILDS, build_package, context.stores.package_build_turns, fail),
        )
        self._deployers = build_deployers(
            context.settings,
            context.stores,
            lambda deployment_id: queue.enqueue(PACKAGE_BUILDS, build_package, deployment_id),
        )
        self._workers_renew_until = 0.0
        self._queue = queue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def reconcile(self) -> None:
        """Enqueue waiting jobs and jobs of lost workers, and fail jobs that lost too many workers.

        A job that is enqueued twice runs once.
        """
        for recovered in self._recovered:
            recovered.reconcile(self._queue, self._context, take=time.monotonic() > self._workers_renew_until)
        self._queue.enqueue_missing(INSPECTIONS, inspect, self._stores.inspections.waiting())
        self._queue.enqueue_missing(SCANS, scan, self._stores.scans.waiting())
        for deployment in self._stores.package_builds.missing():
            self._update(deployment)

    def _update(self, deployment: Deployment) -> None:
        """Call the target of a deployment. An error of one deployment does not stop the others."""
        try:
            self._deployers[DeploymentType(deployment["deployment_type"])].update(deployment)
        except CONNECTION_ERRORS:
            raise
        except Exception:
            log.exception("reconciler.deployment_not_updated", deployment_id=deployment["_id"])

    def _run(self) -> None:
        while True:
            try:
                self.reconcile()
            except CONNECTION_ERRORS as exc:
                # Once MongoDB is back, every worker has one lease duration to renew its leases.
                self._workers_renew_until = time.monotonic() + self._context.settings.job_lease_s
                log.warning("reconciler.database_away", error=str(exc))
            except Exception:
                log.exception("reconciler.failed")
            if self._stop.wait(INTERVAL_S):
                return
