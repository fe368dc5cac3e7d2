"""When a revision has to go: pure of its counts and a clock."""

from typing import Any

import pytest

from model_service.serving.hosting.guard import Guard, Violation
from tests.factories import Document


class Clock:
    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guard(clock: Clock, judged: frozenset[str] | None = None, **given: Any) -> Guard:
    limits = {"max_error_rate": None, "max_p95_ms": None, "min_requests": 50, "window_s": 60}
    return Guard(limits | given, judged, clock)


def note(guard: Guard, times: int, member: str = "v2", status: int = 200, seconds: float = 0.01) -> None:
    for _ in range(times):
        guard.note(member, status=status, seconds=seconds)


def test_nothing_is_judged_before_enough_was_seen(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    note(watch, 49, status=500)
    assert watch.verdict() is None
    note(watch, 1, status=500)
    assert watch.verdict() == Violation("v2", "error_rate", 1.0, 0.1, 50, 60)


def test_a_rate_at_the_limit_is_allowed(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    note(watch, 90)
    note(watch, 10, status=504)
    assert watch.verdict() is None
    note(watch, 1, status=500)
    found = watch.verdict()
    assert found is not None
    assert found.measure == "error_rate"
    assert str(found) == (
        "Member 'v2' failed 10.9% of 101 requests, more than the 10.0% allowed by the deployment's "
        "rollback rule, within 60 s."
    )


def test_what_the_client_did_wrong_says_nothing(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1, max_p95_ms=100)
    note(watch, 500, status=422, seconds=9.0)
    note(watch, 49, status=500)
    assert watch.verdict() is None
    note(watch, 1, status=500)
    found = watch.verdict()
    assert found is not None
    assert found.requests == 50


def test_a_process_that_is_full_says_nothing_of_the_model(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    note(watch, 500, status=503)
    assert watch.verdict() is None


def test_the_95th_percentile(clock: Clock) -> None:
    watch = guard(clock, max_p95_ms=100)
    note(watch, 96, seconds=0.05)
    note(watch, 4, seconds=3.0)
    assert watch.verdict() is None
    note(watch, 4, seconds=3.0)
    found = watch.verdict()
    assert found is not None
    assert (found.measure, found.limit, found.requests) == ("p95_ms", 100, 104)
    assert 1800 < found.value <= 3200
    assert "answered 95% of 104 requests within" in str(found)


def test_what_is_long_ago_is_forgotten(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    note(watch, 49, status=500)
    clock.moment += 66
    note(watch, 49, status=500)
    assert watch.verdict() is None
    note(watch, 1, status=500)
    assert watch.verdict() is not None
    clock.moment += 66
    assert watch.verdict() is None


def test_the_window_slides(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    for _ in range(5):
        note(watch, 10, status=500)
        clock.moment += 10
    assert watch.verdict() is not None  # all fifty lie within the last minute
    clock.moment += 20
    assert watch.verdict() is None


def test_a_canary_that_fails_is_found_beside_a_member_that_does_not(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    note(watch, 2000, member="v1")
    note(watch, 50, member="v2", status=500)
    found = watch.verdict()
    assert found is not None
    assert (found.member, found.value) == ("v2", 1.0)


def test_many_small_members_are_judged_together(clock: Clock) -> None:
    watch = guard(clock, max_error_rate=0.1)
    for index in range(10):
        note(watch, 5, member=f"m{index}", status=500)
    found = watch.verdict()
    assert found is not None
    assert (found.member, found.requests) == (None, 50)
    assert str(found).startswith("All members together failed 100.0% of 50 requests")


def test_only_the_members_that_are_judged_count(clock: Clock) -> None:
    watch = guard(clock, frozenset({"v2"}), max_error_rate=0.1)
    note(watch, 500, member="v1", status=500)
    note(watch, 100, member="v2")
    assert watch.verdict() is None


def deployment(*revisions: list[tuple[str, int]], mode: str = "split", rollback: bool = True) -> Document:
    """Of (export, weight) for each member, each revision live; a member is named like its export."""
    entries: list[Document] = [
        {
            "revision": number,
            "live_at": number,
            "rolled_back": False,
            "routing": {
                "mode": mode,
                "members": [{"name": job, "export_job_id": job, "weight": weight} for job, weight in members],
                "rollback": {"max_error_rate": 0.1, "max_p95_ms": None, "min_requests": 50, "window_s": 60}
                if rollback
                else None,
            },
        }
        for number, members in enumerate(revisions, start=1)
    ]
    return {"revision": len(entries), "routing": entries[-1]["routing"], "revisions": entries}


def violates(document: Document, member: str) -> bool:
    watch = Guard.of(document)
    assert watch is not None
    note(watch, 50, member=member, status=500)
    return watch.verdict() is not None


def test_a_stored_deployment_is_guarded_where_there_is_something_to_go_back_to() -> None:
    assert Guard.of(deployment([("a", 100)])) is None
    assert Guard.of(deployment([("a", 100)], [("b", 100)], rollback=False)) is None
    assert Guard.of(deployment([("a", 100)], [("b", 100)])) is not None


def test_a_member_that_was_served_before_is_not_what_a_rollback_takes_away() -> None:
    canary = deployment([("a", 100)], [("a", 95), ("b", 5)])
    assert violates(canary, "b")
    assert not violates(canary, "a")


def test_where_only_weights_changed_all_are_judged() -> None:
    promoted = deployment([("a", 95), ("b", 5)], [("a", 5), ("b", 95)])
    assert violates(promoted, "a")
    assert violates(promoted, "b")


def test_an_ensemble_answers_as_one() -> None:
    assert violates(deployment([("a", 100)], [("a", 100), ("b", 100)], mode="ensemble"), "the-ensemble")
