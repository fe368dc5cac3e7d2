"""The lease of a job: one owner at a time, and no write by anybody else."""

import time

import pytest

from model_service.config import Settings
from model_service.storage.common.db import Database, now
from model_service.storage.exports.exports import Exports
from model_service.storage.exports.turns import ExportTurns
from model_service.storage.stores import build_stores

JOB = "job"


@pytest.fixture
def exports(database: Database) -> Exports:
    exports = build_stores(database).exports
    document = {
        "_id": JOB,
        "model_id": 1,
        "status": "pending",
        "attempts": 0,
        "log": [],
        "created_at": now(),
    }
    database.transaction(lambda session: exports.insert(document, session))
    return exports


def fail(database: Database, exports: Exports, token: str, message: str) -> bool:
    return database.transaction(
        lambda session: exports.fail(JOB, token, code="conversion_failed", message=message, session=session)
    )


def claim(exports: Exports, *, lease_s: float = 60, max_attempts: int = 3) -> str | None:
    job = exports.claim(JOB, worker="w", lease_s=lease_s, max_attempts=max_attempts)
    return job["lease"]["token"] if job else None


def claim_after(exports: Exports, lease_s: float) -> str:
    deadline = time.monotonic() + 10
    while (token := claim(exports)) is None:
        assert time.monotonic() < deadline, f"a lease of {lease_s} s did not run out"
    return token


@pytest.fixture
def turns(database: Database) -> ExportTurns:
    return build_stores(database).export_turns


def test_a_job_is_claimed_once(exports: Exports) -> None:
    assert claim(exports) is not None
    assert claim(exports) is None


def test_a_lease_that_ran_out_hands_the_job_on_and_fences_the_first_owner_off(
    database: Database, exports: Exports
) -> None:
    first = claim(exports, lease_s=0.05)
    assert first is not None
    second = claim_after(exports, 0.05)
    assert exports.renew(JOB, first, 60) is False
    assert fail(database, exports, first, "late") is False
    exports.report(JOB, first, percent=99, message="late")
    assert exports.get(JOB)["progress_percent"] == 0  # type: ignore[index]
    assert exports.renew(JOB, second, 60) is True
    assert fail(database, exports, second, "why") is True
    job = exports.get(JOB)
    assert job is not None
    assert (job["status"], job["error_code"], job["attempts"]) == ("failed", "conversion_failed", 1)


def test_a_renewed_lease_is_kept(exports: Exports, turns: ExportTurns) -> None:
    token = claim(exports, lease_s=0.2)
    assert token is not None
    assert exports.renew(JOB, token, 60)
    time.sleep(0.3)  # past the first lease
    assert turns.waiting(max_attempts=3) == []
    assert claim(exports) is None


def test_a_worker_that_stops_in_order_uses_up_no_try(exports: Exports, turns: ExportTurns) -> None:
    token = claim(exports)
    assert token is not None
    exports.hand_back(JOB, token)
    job = exports.get(JOB)
    assert job is not None
    assert (job["status"], job["attempts"]) == ("pending", 0)
    assert turns.waiting(max_attempts=3) == [JOB]


def test_a_job_that_has_used_up_its_tries_is_exhausted_after_a_grace(
    exports: Exports, turns: ExportTurns
) -> None:
    assert claim(exports, lease_s=0.01, max_attempts=1) is not None
    deadline = time.monotonic() + 10
    while not turns.exhausted(max_attempts=1, grace_s=0.2):
        assert time.monotonic() < deadline
    assert turns.exhausted(max_attempts=1, grace_s=60) == []
    assert turns.exhausted(max_attempts=2, grace_s=0) == []
    assert claim(exports, max_attempts=1) is None
    assert turns.waiting(max_attempts=1) == []


@pytest.mark.parametrize("taken_up_by", ["a claim", "the reconciler"])
def test_a_try_that_has_not_read_the_model_is_not_counted(
    exports: Exports, turns: ExportTurns, taken_up_by: str
) -> None:
    counted = []
    for _ in range(12):
        assert claim(exports, lease_s=-1, max_attempts=9) is not None
        if taken_up_by == "the reconciler":
            turns.take_from_lost_workers(9, spared="", grace_s=0)
        job = exports.get(JOB)
        assert job is not None
        counted.append(job["attempts"])
    if taken_up_by == "a claim":
        assert counted == [1] * 11 + [2]
    else:
        assert counted == [0] * 10 + [1, 2]


def test_a_try_that_has_read_the_model_is_counted(exports: Exports, turns: ExportTurns) -> None:
    for attempts in (1, 2):
        token = claim(exports, lease_s=60)
        assert token is not None
        exports.report(JOB, token, percent=10, message="loading", progress_step="load")
        assert exports.renew(JOB, token, -1)
        turns.take_from_lost_workers(3, spared="", grace_s=0)
        job = exports.get(JOB)
        assert job is not None
        assert (job["status"], job["attempts"], job.get("unread_tries")) == ("pending", attempts, 0)


def test_a_lease_that_is_renewed_in_time_is_not_given_up(
    database: Database, exports: Exports, turns: ExportTurns
) -> None:
    token = claim(exports, lease_s=0.01, max_attempts=1)
    assert token is not None
    deadline = time.monotonic() + 10
    while not (found := turns.exhausted(max_attempts=1, grace_s=0)):
        assert time.monotonic() < deadline
    assert exports.renew(JOB, token, 60)

    def give_up() -> bool:
        return database.transaction(lambda session: turns.give_up(found[0], "worker_lost", "why", session))

    assert give_up() is False
    job = exports.get(JOB)
    assert job is not None
    assert job["status"] == "running"


def test_exports_of_a_model_are_numbered(settings: Settings) -> None:
    database = Database(settings)
    exports = build_stores(database).exports
    for number in range(3):
        document = {"_id": str(number), "model_id": 7, "status": "pending", "created_at": now()}
        database.transaction(lambda session, document=document: exports.insert(document, session))
    found, total = exports.page({"model_id": 7}, 0, 10)
    assert total == 3
    assert sorted(job["version"] for job in found) == [1, 2, 3]
    database.close()
