"""Runs models: tiny ones on the event loop, all others in threads, with several requests as one batch.

Requests that wait at the same time run together; a request to an idle model does not wait for others. While a
model runs, its next batch is prepared, and starts as soon as the run ends. One engine serves all models of a
process. It is called on the event loop's thread only; only models run elsewhere.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from exporters.errors import LimitExceeded
from model_service.errors import ServiceUnavailable
from model_service.serving.common.fair_semaphore import FairSemaphore
from model_service.serving.common.warm_up import INLINE_S, Cost
from model_service.serving.engine.batches import Shape, concatenated, rows_of, shape_of, split
from model_service.serving.engine.failures import (
    DeadlineExceeded,
    InputRefused,
    ModelCrashed,
    ModelOutOfMemory,
)
from model_service.serving.engine.kills import Kills
from model_service.serving.model_hosts.runs import Answer, HostedModel, HostLost, Run, RunKilled, RunStopped

if TYPE_CHECKING:
    from exporters.base import Arrays
    from exporters.runners import Runner

T = TypeVar("T")

# Threads are created on demand: a slow model keeps its own, and no other model waits for them.
_MOST_THREADS = 128
# How long requests of a model run alone after a batch of them ended a model host.
_ALONE_S = 60.0


@dataclass(frozen=True)
class Batching:
    """``max_rows``: of one run; 1: no batches. ``max_delay_s``: how long a request waits for others."""

    max_rows: int = 1
    max_delay_s: float = 0.0


class Engine:
    """``threads``: how many cores one run may use. ``lanes``: concurrent runs of one model."""

    def __init__(self, threads: int, lanes: int = 1) -> None:
        self.threads = threads
        self.lanes = lanes
        self._busy_s = 0.0
        self._running = 0
        self._since = 0.0  # when the engine last became busy
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="model")

    def busy_seconds(self) -> float:
        """Return the seconds since the start in which at least one model ran: each may use all cores."""
        return self._busy_s + (time.perf_counter() - self._since if self._running else 0.0)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ran_inline(self, seconds: float) -> None:
        """Count a run on the event loop's own thread."""
        if not self._running:
            self._busy_s += seconds

    def start(self, run: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run ``run`` in a thread, and call ``done`` on the loop with its result or exception."""
        loop = asyncio.get_running_loop()
        self.began()

        def work() -> None:
            result: T | Exception
            try:
                result = run()
            except Exception as exc:
                result = exc
            loop.call_soon_threadsafe(finish, result)

        def finish(result: T | Exception) -> None:
            self.ended()
            done(result)

        self._pool.submit(work)

    def began(self) -> None:
        """Count the start of a run, here or in a model host."""
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._busy_s += time.perf_counter() - self._since


class ModelRun(NamedTuple):
    """One run of a model, for a trace.

    ``began_ns``: since 1970. ``requests``: in its batch. ``host_pid``: of the model host; None: this process.
    """

    began_ns: int
    seconds: float
    requests: int
    host_pid: int | None = None


@dataclass(frozen=True)
class Ran:
    """A model's outputs, and the seconds of its run, or of the whole batch for each request in it.

    ``runs``: several for a chain of models.
    """

    outputs: Arrays
    seconds: float
    runs: tuple[ModelRun, ...]


@dataclass(eq=False)
class _Request:
    inputs: Arrays
    rows: int
    shape: Shape
    arrived: float
    answer: asyncio.Future[Ran]
    caller: str
    alone: bool = False  # a batch with this request failed
    lost: int = 0  # how often its model host ended during its run
    suspect: bool = False  # it may have caused the end


@dataclass(frozen=True)
class _Outcome:
    """The result of one run: the outputs for each of the requests; none, if none waited any more."""

    requests: list[_Request]
    outputs: list[Arrays]
    run: ModelRun


_NO_OUTCOME = _Outcome([], [], ModelRun(0, 0.0, 0))


@dataclass
class Runs:
    """The counts of a lane since its creation. ``seconds``: of all runs; ``last_at``: since 1970."""

    count: int = 0
    requests: int = 0
    rows: int = 0
    failures: int = 0
    seconds: float = 0.0
    last_at: float = 0.0

    def note(self, requests: int, rows: int, seconds: float) -> None:
        self.count += 1
        self.requests += requests
        self.rows += rows
        self.seconds += seconds
        self.last_at = time.time()


class Lane:
    """The queue and the runs of one model in the engine.

    Args:
        runner: in this process, or in a model host.
        batching: ``max_rows`` above 1 only for a model whose rows are independent.
        cost: the measured cost of a run.
        timeout_s: after this time, a run in a model host is ended.
        kills: those of the deployment's revision.
    """

    def __init__(
        self,
        engine: Engine,
        runner: Runner | HostedModel,
        batching: Batching,
        cost: Cost,
        *,
        timeout_s: float = math.inf,
        kills: Kills | None = None,
    ) -> None:
        self._engine = engine
        self._batching = batching
        self._timeout_s = timeout_s
        self._kills = kills if kills is not None else Kills()
        self._local = None if isinstance(runner, HostedModel) else runner
        self._hosted = runner if isinstance(runner, HostedModel) else None
        tiny = self._local is not None and cost.seconds < INLINE_S
        self._inline_elements = cost.elements * 4 if tiny else 0
        self.runs = Runs()
        self._waiting: deque[_Request] = deque()
        self._running = 0  # batches in threads, running or ready to run
        self._turns = FairSemaphore(engine.lanes)
        # Until this time requests run alone: a batch ended a model host, and its responsible input is
        # unknown.
        self._alone_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def run_now(self, inputs: Arrays) -> Ran | None:
        """Run now if model and inputs cost almost nothing; otherwise return None: ``submit`` them.

        Raises the runner's own errors.
        """
        local = self._local
        if (
            not self._inline_elements
            or local is None
            or sum(array.size for array in inputs.values()) > self._inline_elements
        ):
            return None
        began_ns, began = time.time_ns(), time.perf_counter()
        try:
            outputs = local.predict(inputs)
        except Exception:
            self.runs.failures += 1
            raise
        seconds = time.perf_counter() - began
        self._engine.ran_inline(seconds)
        self.runs.note(1, rows_of(inputs), seconds)
        return Ran(outputs, seconds, (ModelRun(began_ns, seconds, 1),))

    def submit(self, inputs: Arrays, caller: str = "") -> asyncio.Future[Ran]:
        """Queue a request. A request that is cancelled before its run begins is never computed.

        ``caller``: the id of the caller's key.

        Raises:
            InputRefused: this input ended the model's process before.
        """
        if (how := self._kills.refused(inputs)) is not None:
            raise InputRefused(how)
        answer: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        request = _Request(inputs, rows_of(inputs), shape_of(inputs), time.perf_counter(), answer, caller)
        self._waiting.append(request)
        self._dispatch()
        if self._waiting and self._waiting[-1] is request:
            answer.add_done_callback(partial(self._forget, request))
        return answer

    def _forget(self, request: _Request, answer: asyncio.Future[Ran]) -> None:
        """Remove a cancelled request from the queue.

        Otherwise it would keep its inputs until the model takes another request, which a hanging model never
        does. Only a batch that is ready keeps its cancelled requests.
        """
        if answer.cancelled() and request in self._waiting:
            self._waiting.remove(request)

    def _dispatch(self) -> None:
        while self._waiting and self._has_place() and not self._waits_for_company():
            batch = list(self._take())
            if batch:
                self._run(batch)

    def _has_place(self) -> bool:
        """Return whether another batch may be prepared: one more per lane, if it is at least half full."""
        lanes = self._engine.lanes
        return self._running < lanes or (
            self._running < 2 * lanes and self._waiting_rows() >= self._batching.max_rows / 2
        )

    def _waiting_rows(self) -> int:
        return sum(request.rows for request in self._waiting)

    def _waits_for_company(self) -> bool:
        """Return whether to wait for more requests: a delay is allowed, and the batch is not full."""
        left_s = self._waiting[0].arrived + self._batching.max_delay_s - time.perf_counter()
        if left_s <= 0 or self._waiting_rows() >= self._batching.max_rows:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._delay_over)
        return True

    def _delay_over(self) -> None:
        self._timer = None
        self._dispatch()

    def _take(self) -> Iterator[_Request]:
        """Yield the requests of the next run: the oldest, and later ones that fit into its batch."""
        rows = 0
        shape: Shape | None = None
        passed: list[_Request] = []
        while self._waiting:
            request = self._waiting.popleft()
            if request.answer.done():  # its client no longer waits
                continue
            if shape is not None and (
                request.alone or request.shape != shape or rows + request.rows > self._batching.max_rows
            ):
                passed.append(request)
                if len(passed) >= self._batching.max_rows:
                    break
                continue
            rows += request.rows
            shape = request.shape
            yield request
            if request.alone or rows >= self._batching.max_rows or time.monotonic() < self._alone_until:
                break
        self._waiting.extendleft(reversed(passed))

    def _run(self, batch: list[_Request]) -> None:
        self._running += 1
        if self._hosted is not None:
            self._run_hosted(self._hosted, batch)
        elif self._local is not None:
            self._run_here(self._local, batch)

    def _run_here(self, runner: Runner, batch: list[_Request]) -> None:
        def run() -> _Outcome:
            inputs = _joined(batch)
            with self._turns:
                wanted = [request for request in batch if not request.answer.done()]
                if not wanted:
                    return _NO_OUTCOME
                if len(wanted) < len(batch):  # the others were cancelled while this batch waited
                    inputs = _joined(wanted)
                began_ns, began = time.time_ns(), time.perf_counter()
                outputs = runner.predict(inputs)
                seconds = time.perf_counter() - began
            return _outcome(wanted, outputs, ModelRun(began_ns, seconds, len(wanted)))

        self._engine.start(run, partial(self._done, batch))

    def _run_hosted(self, model: HostedModel, batch: list[_Request]) -> None:
        """See ``_run_here``; here the host decides which model runs next."""
        wanted: list[_Request] = []

        def parts() -> list[Arrays] | None:
            wanted.extend(request for request in batch if not request.answer.done())
            return [request.inputs for request in wanted] or None

        def done(answer: Answer | Exception | None) -> None:
            self._engine.ended()
            outcome: _Outcome | Exception
            try:
                if isinstance(answer, Exception):
                    outcome = answer
                elif answer is None:
                    outcome = _NO_OUTCOME
                else:
                    run = ModelRun(answer.began_ns, answer.seconds, len(wanted), answer.host_pid)
                    outcome = _outcome(wanted, answer.outputs, run)
            except ValueError as exc:
                outcome = exc
            # Requests that were cancelled before the run have no part in it
            self._done(wanted or batch, outcome)

        self._engine.began()
        suspect = any(request.suspect for request in batch)
        model.begin(Run(parts, self._timeout_s, suspect, done))

    def _done(self, batch: list[_Request], outcome: _Outcome | Exception) -> None:
        self._running -= 1
        if isinstance(outcome, _Outcome):
            self._settle(outcome)
        elif isinstance(outcome, HostLost):
            self._retry_lost(batch, outcome)
        elif len(batch) > 1:  # one of them may be at fault, which must not fail the others
            killed = isinstance(outcome, RunKilled)
            if killed:
                self._alone_until = time.monotonic() + _ALONE_S
            for request in batch:
                request.suspect = killed
            self._retry_alone(batch)
        else:
            self._fail(batch[0], outcome)
        self._dispatch()

    def _retry_lost(self, batch: list[_Request], lost: HostLost) -> None:
        """Retry each request once."""
        again = []
        for request in batch:
            request.lost += 1
            request.suspect = lost.suspect
            if request.lost > 1:
                self._fail(request, lost)
            else:
                again.append(request)
        self._retry_alone(again)

    def _retry_alone(self, batch: list[_Request]) -> None:
        for request in batch:
            request.alone = True
            request.answer.add_done_callback(partial(self._forget, request))
        self._waiting.extendleft(reversed(batch))

    def _fail(self, request: _Request, exc: Exception) -> None:
        self.runs.failures += 1
        match exc:
            case RunKilled():
                self._kills.note(request.inputs, request.caller, str(exc))
                exc = ModelCrashed(str(exc))
            case RunStopped():
                exc = DeadlineExceeded(self._timeout_s)
            case LimitExceeded():
                exc = ModelOutOfMemory(exc.message)
            case HostLost():
                exc = ServiceUnavailable(
                    "The process that runs the model ended twice during this request: try again."
                )
        if not request.answer.done():
            request.answer.set_exception(exc)

    def _settle(self, outcome: _Outcome) -> None:
        requests = outcome.requests
        if requests:
            self.runs.note(len(requests), sum(request.rows for request in requests), outcome.run.seconds)
        for request, outputs in zip(requests, outcome.outputs, strict=True):
            if not request.answer.done():
                request.answer.set_result(Ran(outputs, outcome.run.seconds, (outcome.run,)))


def _outcome(requests: list[_Request], outputs: Arrays, run: ModelRun) -> _Outcome:
    """Return the outcome of a run. Raises ValueError, as ``split``."""
    if len(requests) == 1:
        return _Outcome(requests, [outputs], run)
    return _Outcome(requests, split(outputs, [request.rows for request in requests]), run)


def _joined(requests: list[_Request]) -> Arrays:
    """Return the inputs of one run."""
    if len(requests) == 1:
        return requests[0].inputs
    return concatenated([request.inputs for request in requests])
