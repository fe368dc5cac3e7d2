"""What export and evaluation jobs have in common: a claim, one attempt in a child process, and its end.

An attempt runs under a lease. It stores its result and releases the job's blobs in one transaction, which
does nothing if the lease is lost.
"""

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import ClassVar, Generic

import structlog

from model_service import tracing
from model_service.errors import is_disk_full
from model_service.jobs import trace
from model_service.jobs.context import Context
from model_service.jobs.converter import Abandoned, Child, ConversionError, ConverterKilled, Event
from model_service.jobs.lease import Lease
from model_service.states import JobErrorCode
from model_service.storage.blobs.blobs import Blob
from model_service.storage.blobs.disk_space import MONGODB, WORK
from model_service.storage.common.db import CONNECTION_ERRORS, Session
from model_service.storage.common.documents import Fields, LeasedJob, blobs_of
from model_service.storage.common.job_turns import JobTurns
from model_service.storage.common.leased_jobs import J, LeasedJobs

log = structlog.get_logger(__name__)

# Progress: fetching and publishing are the ends of the bar; the child's steps fill the part between.
FETCHED, RAN = 5.0, 95.0
_TRAIN = "train"  # the step of the child's events after each epoch of a training
_MOST_CHILDREN = 10  # per attempt: a child that is killed before it read the model is replaced


class JobLost(Exception):
    """Another worker has the job, or it was cancelled: this attempt must store nothing."""


class JobRunner(ABC, Generic[J]):
    """Runs the jobs of one collection.

    ``kind`` is the name in log lines, spans and messages. ``advice_after_repair`` says how a user runs a
    failed job again.
    """

    kind: ClassVar[str]
    advice_after_repair: ClassVar[str]

    def __init__(self, context: Context, jobs: LeasedJobs[J], turns: JobTurns[J]) -> None:
        self.context = context
        self.jobs = jobs
        self._turns = turns

    @abstractmethod
    def start_child(self) -> Child:
        """Return a child for one attempt."""

    @abstractmethod
    def run(self, job: J, child: Child, lease: Lease) -> None:
        """Run an attempt in the child, and complete the job.

        Raises:
            ConversionError: the job fails. JobLost, Abandoned: the attempt ends and stores nothing.
        """

    @abstractmethod
    def fail(self, job: J, failure: ConversionError, workspace: Path | None = None) -> None:
        """Fail the job and release its blobs. ``workspace`` is the folder of the failed child."""

    def answered(self, job: J) -> bool:
        """Complete the job from a stored result, if there is an equal one. Returns whether there is."""
        return False

    def attributes(self, job: J) -> Mapping[str, str | int]:
        """Return further attributes of the job's span."""
        return {}

    @abstractmethod
    def count(self, job: J, outcome: str, seconds: float) -> None:
        """Count an attempt in the metrics.

        Args:
            outcome: completed, reused, failed, abandoned or interrupted.
        """

    def run_next(self, job_id: str) -> None:
        """Run the next job in turn. ``job_id`` only shows that one waits."""
        context = self.context
        if short := context.disk.short(WORK, MONGODB):
            # The job stays pending, and the reconciler enqueues it again until there is space.
            least = context.settings.disk_min_free
            log.warning(f"{self.kind}.waits_for_disk", job_id=job_id, free_bytes=short, least=least)
            return
        job = self._claim()
        if job is None:
            return
        began = time.monotonic()
        state: LeasedJob = job
        with trace.continued(self.kind, state.get("traceparent"), job_id=job["_id"]) as span:
            log.info(f"{self.kind}.started", job_id=job["_id"], attempt=job["attempts"])
            outcome = self._attempt(job)
            noted = {"attempt": job["attempts"], "outcome": outcome, **self.attributes(job)}
            span.note({f"model_service.{self.kind}.{name}": value for name, value in noted.items()})
        self.count(job, outcome, time.monotonic() - began)

    def _claim(self) -> J | None:
        """Claim the next job; None if no job waits."""
        settings, toolchain = self.context.settings, self.context.toolchain
        hardware = toolchain.hardware if toolchain is not None else None
        while job_id := self._turns.next_in_turn(settings.job_max_attempts, hardware):
            job = self.jobs.claim(
                job_id,
                worker=self.context.worker,
                lease_s=settings.job_lease_s,
                max_attempts=settings.job_max_attempts,
            )
            if job is not None:
                return job
        return None

    def _attempt(self, job: J) -> str:
        context, job_id, token = self.context, job["_id"], job["lease"]["token"]
        try:
            if self.answered(job):
                log.info(f"{self.kind}.reused", job_id=job_id)
                return "reused"
            with Lease(self.jobs, job_id, token, context.settings.job_lease_s) as lease:
                return "completed" if self._run_in_a_child(job, lease) else "failed"
        except (Abandoned, JobLost):
            log.info(f"{self.kind}.abandoned", job_id=job_id)
            if context.stopping.is_set():
                self.jobs.hand_back(job_id, token)
            return "abandoned"
        except CONNECTION_ERRORS as exc:
            # Not the model's fault: the lease expires and the reconciler enqueues the job again.
            log.warning(f"{self.kind}.interrupted", job_id=job_id, error=str(exc))
            return "interrupted"
        except Exception as exc:
            if is_disk_full(exc):
                log.warning(f"{self.kind}.disk_full", job_id=job_id, attempt=job["attempts"])
                return self._try_again(job, self._disk_full(job))
            log.exception(f"{self.kind}.broken", job_id=job_id)
            message = (
                f"The service failed while it ran this {self.kind}; its log has the cause under the job's id."
            )
            return self._try_again(job, ConversionError(JobErrorCode.INTERNAL_ERROR, message))
        finally:
            if not context.stopping.is_set():
                context.converter.prewarm()

    def _try_again(self, job: J, failure: ConversionError) -> str:
        """Return the job to waiting, or fail it after JOB_MAX_ATTEMPTS. Returns this attempt's outcome."""
        if job["attempts"] < self.context.settings.job_max_attempts:
            line = f"Attempt {job['attempts']} ended with {failure.code}; the job is tried again."
            self.jobs.hand_back(job["_id"], job["lease"]["token"], failed=line)
            return "interrupted"
        self.fail(job, failure)
        return "failed"

    def _disk_full(self, job: J) -> ConversionError:
        return ConversionError(
            JobErrorCode.DISK_FULL,
            f"The worker's disk was full in each of {job['attempts']} attempts: free space in its "
            f"workspace (MODEL_SERVICE_HOME/work) and {self.advice_after_repair}.",
        )

    def _run_in_a_child(self, job: J, lease: Lease) -> bool:
        """Run the attempt, replacing children that are killed before they read the model.

        Returns whether it was completed; otherwise the job has failed, with the reason.

        Raises:
            ConverterBroken: no child read the model.
        """
        more = _MOST_CHILDREN
        while True:
            with closing(self.start_child()) as child:
                try:
                    self.run(job, child, lease)
                except ConverterKilled as exc:
                    more -= 1
                    if not more:
                        raise
                    log.warning("converter.killed", job_id=job["_id"], error=str(exc))
                    continue
                except ConversionError as failure:
                    if failure.details.get("limit") == "disk" and self.context.disk.short(WORK):
                        raise OSError(errno.ENOSPC, failure.message) from failure
                    log.info(f"{self.kind}.failed", job_id=job["_id"], code=failure.code)
                    self.fail(job, failure, child.workspace)
                    return False
            log.info(f"{self.kind}.completed", job_id=job["_id"])
            return True

    def report(self, job: J, percent: float, message: str, step: str, **fields: object) -> None:
        token = job["lease"]["token"]
        self.jobs.report(job["_id"], token, percent=percent, message=message, progress_step=step, **fields)

    def convert(
        self,
        job: J,
        child: Child,
        lease: Lease,
        request: Event,
        trained: Callable[[], None] | None = None,
    ) -> Event:
        """Send the request to the child, report its progress, and return its result.

        Args:
            trained: called after each epoch of a training.

        Raises:
            ConversionError, ConverterBroken, ConverterKilled, Abandoned: as ``Child.convert``.
        """
        settings, pid = self.context.settings, child.process.pid

        def on_progress(event: Event) -> None:
            percent = FETCHED + event["percent"] / 100 * (RAN - FETCHED)
            with suppress(*CONNECTION_ERRORS):  # a conversion continues while MongoDB is unreachable
                self.report(job, round(percent, 1), event["message"], str(event.get("step", ""))[:40])
                if trained is not None and event.get("step") == _TRAIN:
                    trained()

        with tracing.span("converter", {"process.pid": pid}):
            return child.convert(
                request,
                timeout_s=settings.export_timeout_s,
                on_progress=on_progress,
                on_step=trace.step_recorder(pid),
                abandoned=lambda: lease.lost.is_set() or self.context.stopping.is_set(),
            )

    def end(
        self,
        job: J,
        finish: Callable[[Fields, Session], bool],
        package: Blob | None = None,
        described: Fields | None = None,
    ) -> None:
        """Finish the job, publish its package and release its blobs in one transaction.

        Args:
            finish: stores the end, given the fields that refer to the package. Returns False if the lease is
                lost.
            described: the package, as in ``storage.blobs.descriptions``.

        Raises:
            JobLost: nothing was stored.
        """
        stores = self.context.stores

        def refer(stored: Blob | None, session: Session) -> None:
            if not finish({"package": stored.reference()} if stored else {}, session):
                raise JobLost
            ended = self.jobs.get(job["_id"], session)  # its training state may be newer than ``job``'s
            stores.blobs.release_all(blobs_of(ended or job), session)

        if package is None:
            stores.database.transaction(lambda session: refer(None, session))
        else:
            stores.blobs.publish(package, refer, described=described)
