"""Which job runs next: exports before scans and in turn with inspections, users in turn, lost jobs again."""

from typing import Any

import pytest
from pymongo.errors import AutoReconnect
from redis import Redis

from model_service.jobs.context import Context
from model_service.jobs.inspect import inspect
from model_service.jobs.queue import INSPECTIONS, SCANS, Queue
from model_service.jobs.reconcile import INTERVAL_S, Reconciler
from model_service.jobs.scan import scan
from model_service.services import Services
from model_service.storage.exports.turns import ExportTurns
from tests.factories import scaling_program
from tests.jobs.test_export import new_job
from tests.jobs.test_inspect import new_dataset
from tests.jobs.test_scan import uploaded
from tests.processes import worker
from tests.waiting import wait_for


def started(context: Context) -> str | None:
    """The user whose job is claimed next."""
    job_id = context.stores.export_turns.next_in_turn(max_attempts=3)
    if job_id is None:
        return None
    job = context.stores.exports.claim(job_id, worker="another", lease_s=60, max_attempts=3)
    assert job is not None
    return str(job["user_id"])


def test_users_take_turns(context: Context, services: Services) -> None:
    owners = ["ada"] * 5 + ["bob"] * 2 + ["eve"]
    for owner in owners:
        job_id = new_job(services, scaling_program())
        context.stores.database.export_jobs.update_one({"_id": job_id}, {"$set": {"user_id": owner}})
    order = [started(context) for _ in range(9)]
    assert order == ["ada", "bob", "eve", "ada", "bob", "ada", "ada", "ada", None]


def test_the_jobs_of_one_user_run_in_their_order(context: Context, services: Services) -> None:
    jobs = [new_job(services, scaling_program()) for _ in range(3)]
    for job_id in jobs:
        assert context.stores.export_turns.next_in_turn(max_attempts=3) == job_id
        context.stores.exports.claim(job_id, worker="another", lease_s=60, max_attempts=3)


def test_a_job_for_other_hardware_waits_for_its_worker(context: Context, services: Services) -> None:
    special, usual = (new_job(services, scaling_program()) for _ in range(2))
    jobs = context.stores.database.export_jobs
    jobs.update_one({"_id": special}, {"$set": {"hardware": "an abacus, 10 cores"}})
    turns = context.stores.export_turns
    assert [turns.next_in_turn(3), turns.next_in_turn(3, "a slide rule, 1 core")] == [usual, usual]
    assert turns.next_in_turn(3, "an abacus, 10 cores") == special


def test_a_job_whose_worker_was_lost_is_shown_as_pending(
    context: Context, services: Services, queue: Queue
) -> None:
    job_id, own = (new_job(services, scaling_program()) for _ in range(2))
    assert context.stores.exports.claim(job_id, worker="killed", lease_s=-INTERVAL_S - 1, max_attempts=3)
    assert context.stores.exports.claim(own, worker=context.worker, lease_s=-INTERVAL_S - 1, max_attempts=3)
    Reconciler(context, queue).reconcile()
    job = services.exports.get(job_id)
    assert (job["status"], job["attempts"], job.get("lease")) == ("pending", 0, None)
    assert "lost" in job["progress_message"]
    assert "lost" in job["log"][-1]
    assert services.exports.get(own)["status"] == "running"  # this worker knows that it lives


def test_an_export_is_not_behind_the_scans_that_wait(
    context: Context, services: Services, queue: Queue
) -> None:
    models = [uploaded(services, b"%d" % number, name=f"m{number}") for number in range(20)]
    for model_id in models:
        queue.enqueue(SCANS, scan, model_id)
    job_id = new_job(services, scaling_program())
    with worker(context.settings):
        wait_for(lambda: services.exports.get(job_id)["status"] == "completed", "the export")
        assert len(context.stores.scans.waiting()) > 10


def test_an_export_waits_for_at_most_one_of_the_inspections_that_wait(
    context: Context, services: Services, queue: Queue
) -> None:
    for number in range(20):
        queue.enqueue(INSPECTIONS, inspect, new_dataset(services, name=f"d{number}"))
    job_id = new_job(services, scaling_program())
    with worker(context.settings):
        wait_for(lambda: services.exports.get(job_id)["status"] == "completed", "the export")
        assert len(context.stores.inspections.waiting()) > 10


def test_a_worker_goes_on_if_another_one_has_removed_its_job_from_the_queue(
    context: Context, services: Services
) -> None:
    """So it is with an id that was enqueued twice."""
    assert context.settings.redis_url is not None
    first = new_job(services, scaling_program())
    with (
        worker(context.settings) as process,
        Redis.from_url(context.settings.redis_url.get_secret_value()) as redis,
    ):
        wait_for(lambda: services.exports.get(first)["status"] == "running", "the export to run")
        assert redis.delete(*redis.keys(f"*job:{first}*"))
        wait_for(lambda: services.exports.get(first)["status"] == "completed", "its end")
        second = new_job(services, scaling_program(3.0))
        wait_for(lambda: services.exports.get(second)["status"] == "completed", "the next one")
        assert process.poll() is None


def test_workers_have_time_to_renew_their_leases_after_mongodb_was_away(
    context: Context, services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = new_job(services, scaling_program())
    assert context.stores.exports.claim(job_id, worker="another", lease_s=-INTERVAL_S - 1, max_attempts=3)
    away, looks = [AutoReconnect("away")], []
    exhausted = ExportTurns.exhausted

    def look(self: ExportTurns, *given: Any, **named: Any) -> Any:
        looks.append(len(away))
        if away:
            raise away.pop()
        return exhausted(self, *given, **named)

    monkeypatch.setattr(ExportTurns, "exhausted", look)
    reconciler = Reconciler(context, queue)
    reconciler.start()
    wait_for(lambda: len(looks) == 3, "the reconciler to look twice again")
    reconciler.stop()
    assert services.exports.get(job_id)["status"] == "running"
