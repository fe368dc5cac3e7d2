"""When the pool grows and shrinks: a simulated clock, twice a second."""

import pytest

from model_service.serving.pool.scaling import Scaler, Wish

ALONE = [Wish(1, 1, 70)]
ELASTIC = [Wish(1, 4, 70)]


class Clock:
    def __init__(self, limit: int = 8) -> None:
        self.scaler = Scaler(limit)
        self.now = 1000.0
        self.sizes = [1]

    def run(self, seconds: float, load: float, wishes: list[Wish]) -> int:
        """A load in whole processes, spread evenly; a process does no more than it can."""
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            size = self.sizes[-1]
            self.sizes.append(self.scaler.size(self.now, [min(1.0, load / size)] * size, wishes))
        return self.sizes[-1]


def test_it_grows_soon_when_it_is_busier_than_the_target() -> None:
    clock = Clock()
    assert clock.run(1.5, 1.0, ELASTIC) == 1
    assert clock.run(3, 1.0, ELASTIC) == 2


def test_it_grows_step_by_step_up_to_what_a_load_needs() -> None:
    assert Clock().run(20, 2.0, ELASTIC) == 3


def test_it_never_grows_past_the_maximum() -> None:
    assert Clock().run(30, 100, ELASTIC) == 4


def test_a_burst_does_not_make_it_grow() -> None:
    clock = Clock()
    for _ in range(10):
        clock.run(1, 1.0, ELASTIC)
        clock.run(1, 0.1, ELASTIC)
    assert set(clock.sizes) == {1}


def test_it_shrinks_after_a_minute_below_the_target() -> None:
    clock = Clock()
    clock.run(20, 2.0, ELASTIC)
    assert clock.run(50, 0.1, ELASTIC) == 3
    assert clock.run(15, 0.1, ELASTIC) == 1


def test_it_does_not_flap_around_the_target() -> None:
    clock = Clock()
    for _ in range(60):
        clock.run(5, 0.75, ELASTIC)
        clock.run(5, 0.66, ELASTIC)
    changes = [size for before, size in zip(clock.sizes, clock.sizes[1:], strict=False) if size != before]
    assert changes == [2]


def test_a_minimum_and_a_maximum_hold_at_once() -> None:
    clock = Clock()
    assert clock.run(0.5, 0.0, [Wish(3, 5, 70)]) == 3
    assert clock.run(0.5, 0.0, ALONE) == 1


def test_the_deployment_that_wants_most_counts() -> None:
    assert Clock().run(20, 2.0, [Wish(1, 2, 70), Wish(1, 8, 50), *ALONE]) == 4


def test_no_deployment_gets_more_than_the_limit() -> None:
    assert Clock(limit=2).run(20, 2.0, [Wish(6, 8, 50)]) == 2


def test_without_deployments_there_is_one() -> None:
    clock = Clock()
    clock.run(5, 1.0, ELASTIC)
    assert clock.run(0.5, 1.0, []) == 1


def test_a_load_exactly_at_the_target_needs_no_more() -> None:
    assert Wish(1, 9, 70).processes(0.7) == 1
    assert Wish(1, 9, 70).processes(2.1) == pytest.approx(3)


def test_it_begins_with_the_initial_replicas_and_goes_on_by_the_load() -> None:
    wish = [Wish(1, 10, 70, initial_replicas=3)]
    clock = Clock()
    clock.run(120, 0.0, ALONE)
    assert clock.run(0.5, 0.0, [*ALONE, *wish]) == 3
    assert clock.run(50, 0.0, [*ALONE, *wish]) == 3
    assert clock.run(15, 0.0, [*ALONE, *wish]) == 1
