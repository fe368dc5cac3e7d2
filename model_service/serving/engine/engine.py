"""Runs models: a tiny one right on the event loop, any other in threads, several requests as one batch.

What waits together runs together; a request that finds the model idle waits for nobody. While a model runs,
its next batch is made ready, and begins right when the run ends. One engine serves all models of a process.
It is called on the event loop's thread alone; only models run elsewhere.
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
from typing import TYPE_CHECKING, TypeVar

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

# Made as they are needed: a slow model keeps its own, and no other model waits for them.
_MOST_THREADS = 128
# So long requests of a model run alone after a batch of them ended a model host.
_ALONE_S = 60.0


@dataclass(frozen=True)
class Batching:
    """``max_rows``: of one run; 1: each request alone. ``max_delay_s``: how long one waits for company."""

    max_rows: int = 1
    max_delay_s: float = 0.0


class Engine:
    """``threads``: how many cores one run may use. ``lanes``: runs of one model at a time."""

    def __init__(self, threads: int, lanes: int = 1) -> None:
        self.threads = threads
        self.lanes = lanes
        self._busy_s = 0.0
        self._running = 0
        self._since = 0.0  # when the engine last began to have something to do
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="model")

    def busy_seconds(self) -> float:
        """Seconds since the start in which a model ran, one or several: each may use all cores."""
        return self._busy_s + (time.perf_counter() - self._since if self._running else 0.0)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ran_inline(self, seconds: float) -> None:
        """A model took the event loop's own time."""
        if not self._running:
            self._busy_s += seconds

    def start(self, run: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """``done`` is called on the loop with what ``run`` returned or raised."""
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
        """A model runs, here or in a model host."""
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._busy_s += time.perf_counter() - self._since


@dataclass(frozen=True)
class Ran:
    """A model's answer, and the seconds of its run; those of the whole batch for each request in it."""

    outputs: Arrays
    seconds: float


@dataclass(eq=False)
class _Request:
    inputs: Arrays
    rows: int
    shape: Shape
    arrived: float
    answer: asyncio.Future[Ran]
    caller: str
    alone: bool = False  # a batch that it was part of failed
    lost: int = 0  # how often its model host ended while it was in it
    suspect: bool = False  # it may have been at fault


@dataclass(frozen=True)
class _Outcome:
    """Of one run, in ``seconds``: the outputs for each of the requests."""

    requests: list[_Request]
    outputs: list[Arrays]
    seconds: float


@dataclass
class Runs:
    """What a lane did since it was made. ``seconds``: of all runs; ``last_at``: since 1970."""

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
    """One model's way through the engine.

    Args:
        runner: in this process, or in a model host.
        batching: ``max_rows`` above 1 only for a model that answers each row as if it were alone.
        cost: what a run was measured to cost.
        timeout_s: a run in a model host is ended then.
        kills: of the deployment's revision.
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
        self._running = 0  # batches in threads: those that run, and those ready to
        self._turns = FairSemaphore(engine.lanes)
        self._alone_until = 0.0  # after a batch that ended a model host: it was not known whose input did
        self._timer: asyncio.TimerHandle | None = None

    def run_now(self, inputs: Arrays) -> Ran | None:
        """The answer at once, of a model and inputs that cost nearly nothing; None: ``submit`` them.

        Raises whatever the runner raises.
        """
        local = self._local
        if (
            not self._inline_elements
            or local is None
            or sum(array.size for array in inputs.values()) > self._inline_elements
        ):
            return None
        began = time.perf_counter()
        try:
            outputs = local.predict(inputs)
        except Exception:
            self.runs.failures += 1
            raise
        seconds = time.perf_counter() - began
        self._engine.ran_inline(seconds)
        self.runs.note(1, rows_of(inputs), seconds)
        return Ran(outputs, seconds)

    def submit(self, inputs: Arrays, caller: str = "") -> asyncio.Future[Ran]:
        """The answer in time. What is cancelled before its run begins is never computed.

        ``caller``: the id of the key that asks.

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
        """Who gave up would wait, with all inputs, until the model takes another one; which one that hangs
        never does. Only the batch that is ready keeps them until then."""
        if answer.cancelled() and request in self._waiting:
            self._waiting.remove(request)

    def _dispatch(self) -> None:
        while self._waiting and self._has_place() and not self._waits_for_company():
            batch = list(self._take())
            if batch:
                self._run(batch)

    def _has_place(self) -> bool:
        """One batch more than run at a time is made ready; not before it is half full, as others may come."""
        lanes = self._engine.lanes
        return self._running < lanes or (
            self._running < 2 * lanes and self._waiting_rows() >= self._batching.max_rows / 2
        )

    def _waiting_rows(self) -> int:
        return sum(request.rows for request in self._waiting)

    def _waits_for_company(self) -> bool:
        """Only where a delay is allowed, and the batch could still grow."""
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
        """The requests of the next run: the oldest, and those behind it that fit to it."""
        rows = 0
        shape: Shape | None = None
        passed: list[_Request] = []
        while self._waiting:
            request = self._waiting.popleft()
            if request.answer.done():  # nobody waits for it any more
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
                    return _Outcome([], [], 0.0)
                if len(wanted) < len(batch):  # the others gave up while this one waited for its turn
                    inputs = _joined(wanted)
                began = time.perf_counter()
                outputs = runner.predict(inputs)
                seconds = time.perf_counter() - began
            return _outcome(wanted, outputs, seconds)

        self._engine.start(run, partial(self._done, batch))

    def _run_hosted(self, model: HostedModel, batch: list[_Request]) -> None:
        """As ``_run_here``; the host has the model's turns."""
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
                    outcome = _Outcome([], [], 0.0)
                else:
                    outcome = _outcome(wanted, answer.outputs, answer.seconds)
            except ValueError as exc:
                outcome = exc
            self._done(wanted or batch, outcome)  # who gave up before it began had no part in it

        self._engine.began()
        suspect = any(request.suspect for request in batch)
        model.begin(Run(parts, self._timeout_s, suspect, done))

    def _done(self, batch: list[_Request], outcome: _Outcome | Exception) -> None:
        self._running -= 1
        if isinstance(outcome, _Outcome):
            self._settle(outcome)
        elif isinstance(outcome, HostLost):
            self._retry_lost(batch, outcome)
        elif len(batch) > 1:  # one of them may be at fault: none of the others fails for it
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
        """Once."""
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
                    "The process that runs the model ended twice while it had this request: try again."
                )
        if not request.answer.done():
            request.answer.set_exception(exc)

    def _settle(self, outcome: _Outcome) -> None:
        requests = outcome.requests
        if requests:
            self.runs.note(len(requests), sum(request.rows for request in requests), outcome.seconds)
        for request, outputs in zip(requests, outcome.outputs, strict=True):
            if not request.answer.done():
                request.answer.set_result(Ran(outputs, outcome.seconds))


def _outcome(requests: list[_Request], outputs: Arrays, seconds: float) -> _Outcome:
    """Raises: ValueError: as ``split``."""
    if len(requests) == 1:
        return _Outcome(requests, [outputs], seconds)
    return _Outcome(requests, split(outputs, [request.rows for request in requests]), seconds)


def _joined(requests: list[_Request]) -> Arrays:
    """The inputs of one run."""
    if len(requests) == 1:
        return requests[0].inputs
    return concatenated([request.inputs for request in requests])
