"""What waits together runs together, nothing waits for nothing, and no row gets another's answer."""

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest

from exporters.base import Arrays, TensorSpec
from model_service.serving.common.warm_up import Cost
from model_service.serving.engine.engine import Batching, Engine, Lane

T = TypeVar("T")
SLOW = Cost(seconds=0.01, elements=3)


class Doubling:
    """x float32[batch, 3] → y, twice x. Runs when it is let, and notes how many rows each run had."""

    def __init__(self) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", ("batch", 3)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", "float32", ("batch", 3)),)
        self.runs: list[int] = []
        self.let = threading.Event()
        self.began = threading.Semaphore(0)

    def predict(self, inputs: Arrays) -> Arrays:
        self.began.release()
        assert self.let.wait(30)
        x = inputs["x"]
        self.runs.append(len(x))
        if np.isnan(x).any():
            raise ValueError("not a number")
        return {"y": x * 2}


def run(engine: Engine, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work()

    try:
        return asyncio.run(bounded())
    finally:
        engine.stop()


def rows(*values: float) -> Arrays:
    return {"x": np.asarray([[value] * 3 for value in values], np.float32)}


async def begun(model: Doubling, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(model.began.acquire, timeout=30)


async def told(answers: Sequence[Awaitable[Any]]) -> list[Any]:
    found: list[Any] = await asyncio.gather(*answers, return_exceptions=True)
    return [each if isinstance(each, Exception) else each.outputs["y"].tolist() for each in found]


def test_what_waits_together_runs_together_and_each_gets_its_own_rows() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)

    async def work() -> list[Any]:
        first = lane.submit(rows(1))
        await begun(model)
        others = [lane.submit(rows(2)), lane.submit(rows(3, 4)), lane.submit(rows(5))]
        model.let.set()
        return await told([first, *others])

    answers = run(engine, work)
    assert model.runs == [1, 4]
    assert answers == [[[2.0] * 3], [[4.0] * 3], [[6.0] * 3, [8.0] * 3], [[10.0] * 3]]


def test_a_batch_has_no_more_rows_than_allowed_and_the_order_is_kept() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=3), SLOW)

    async def work() -> None:
        answers = [lane.submit(rows(0))]
        await begun(model)
        answers += [lane.submit(rows(*range(size))) for size in (2, 2, 1, 5, 1)]
        model.let.set()
        await told(answers)

    run(engine, work)
    assert model.runs == [1, 2, 3, 5, 1]  # one that is too large by itself runs alone


def test_a_batch_that_is_half_full_begins_when_the_run_ends_whatever_the_loop_does() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)

    async def work() -> None:
        answers = [lane.submit(rows(0))]
        await begun(model)
        answers += [lane.submit(rows(1, 2)), lane.submit(rows(3, 4)), lane.submit(rows(5))]
        model.let.set()
        assert model.began.acquire(timeout=30)  # holds the loop up
        await told(answers)

    run(engine, work)
    assert model.runs == [1, 4, 1]


def test_different_sizes_of_other_axes_are_never_one_batch() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)
    wide: Arrays = {"x": np.ones((1, 5), np.float32)}

    async def work() -> list[Any]:
        answers = [lane.submit(rows(1))]
        await begun(model)
        answers += [lane.submit(rows(2)), lane.submit(wide), lane.submit(rows(3))]
        model.let.set()
        return await told(answers)

    answers = run(engine, work)
    assert model.runs == [1, 2, 1]
    assert answers[2] == [[2.0] * 5]


def test_one_bad_request_fails_alone() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)

    async def work() -> list[Any]:
        answers = [lane.submit(rows(1))]
        await begun(model)
        answers += [lane.submit(rows(2)), lane.submit(rows(np.nan)), lane.submit(rows(3))]
        model.let.set()
        return await told(answers)

    _, good, bad, last = run(engine, work)
    assert (good, last) == ([[4.0] * 3], [[6.0] * 3])
    assert isinstance(bad, ValueError)


def test_a_request_that_nobody_waits_for_is_not_run() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=1), SLOW)

    async def work() -> None:
        first = lane.submit(rows(1))
        await begun(model)
        given_up, last = lane.submit(rows(2)), lane.submit(rows(3))
        given_up.cancel()
        model.let.set()
        await told([first, last])

    run(engine, work)
    assert model.runs == [1, 1]


def test_a_model_that_hangs_keeps_nothing_of_who_gave_up() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)

    async def work() -> None:
        first = lane.submit(rows(1))
        await begun(model)
        inputs = np.ones((1, 3), np.float32)
        kept = weakref.ref(inputs)
        given_up = lane.submit({"x": inputs})
        del inputs
        given_up.cancel()
        await asyncio.sleep(0)
        del given_up
        assert kept() is None
        model.let.set()
        await told([first])

    run(engine, work)
    assert model.runs == [1]


def test_without_a_delay_the_first_request_runs_at_once() -> None:
    engine, model = Engine(1, lanes=2), Doubling()
    lane = Lane(engine, model, Batching(max_rows=8), SLOW)

    async def work() -> None:
        answers = [lane.submit(rows(1)), lane.submit(rows(2))]
        await begun(model, 2)  # two lanes: neither waits for the other
        model.let.set()
        await told(answers)

    run(engine, work)
    assert model.runs == [1, 1]


def test_an_allowed_delay_fills_a_batch_and_a_full_one_waits_no_longer() -> None:
    engine, model = Engine(1, lanes=2), Doubling()
    model.let.set()
    lane = Lane(engine, model, Batching(max_rows=2, max_delay_s=20), SLOW)

    async def work() -> None:
        await told([lane.submit(rows(1)), lane.submit(rows(2))])

    run(engine, work)
    assert model.runs == [2]


def test_a_delay_ends() -> None:
    engine, model = Engine(1, lanes=2), Doubling()
    model.let.set()
    lane = Lane(engine, model, Batching(max_rows=8, max_delay_s=0.02), SLOW)

    async def work() -> None:
        await told([lane.submit(rows(1))])

    run(engine, work)
    assert model.runs == [1]


def test_a_tiny_model_answers_at_once_but_not_a_large_request_of_it() -> None:
    engine, model = Engine(1), Doubling()
    model.let.set()
    lane = Lane(engine, model, Batching(max_rows=8), Cost(seconds=1e-5, elements=3))
    ran = lane.run_now(rows(1))
    assert ran is not None
    assert ran.outputs["y"].tolist() == [[2.0] * 3]
    assert lane.run_now(rows(*range(100))) is None
    assert Lane(engine, model, Batching(), SLOW).run_now(rows(1)) is None
    engine.stop()


def test_the_time_that_models_take_is_counted_while_they_run() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(), SLOW)

    async def work() -> tuple[float, float]:
        answer = lane.submit(rows(1))
        await begun(model)
        time.sleep(0.02)
        running = engine.busy_seconds()
        model.let.set()
        await answer
        return running, engine.busy_seconds()

    running, after = run(engine, work)
    assert 0.02 <= running <= after


def test_what_a_model_raises_is_the_answer() -> None:
    engine, model = Engine(1), Doubling()
    model.let.set()
    lane = Lane(engine, model, Batching(), SLOW)

    async def work() -> None:
        await lane.submit(rows(np.nan))

    with pytest.raises(ValueError, match="not a number"):
        run(engine, work)


class SlowAlone(Doubling):
    """A wrong row that is alone takes until ``alone`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.alone = threading.Event()

    def predict(self, inputs: Arrays) -> Arrays:
        if np.isnan(inputs["x"]).all():
            assert len(inputs["x"]) > 1 or self.alone.wait(30)
        return super().predict(inputs)


def test_a_batch_that_failed_takes_no_threads_from_another_model() -> None:
    engine, model, other = Engine(1), SlowAlone(), Doubling()
    lane = Lane(engine, model, Batching(max_rows=512), SLOW)
    other_lane = Lane(engine, other, Batching(), SLOW)
    other.let.set()

    async def work() -> None:
        first = lane.submit(rows(1))
        await begun(model)
        wrong = [lane.submit(rows(np.nan)) for _ in range(255)]
        model.let.set()
        await begun(model)  # all of them together; then each alone
        await asyncio.sleep(0.1)
        assert await told([other_lane.submit(rows(3))]) == [[[6.0] * 3]]
        model.alone.set()
        assert await told([first]) == [[[2.0] * 3]]
        assert all(isinstance(answer, ValueError) for answer in await told(wrong))

    run(engine, work)


def test_of_a_batch_that_is_ready_only_what_somebody_waits_for_is_run() -> None:
    engine, model = Engine(1), Doubling()
    lane = Lane(engine, model, Batching(max_rows=6), SLOW)

    async def work() -> list[Any]:
        answers = [lane.submit(rows(1))]
        await begun(model)
        answers += [lane.submit(rows(2)), lane.submit(rows(3)), lane.submit(rows(4))]  # ready now
        answers[2].cancel()
        model.let.set()
        return await told([answers[1], answers[3]])

    assert run(engine, work) == [[[4.0] * 3], [[8.0] * 3]]
    assert model.runs == [1, 2]
