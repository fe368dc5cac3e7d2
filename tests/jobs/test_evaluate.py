"""The evaluation job: what its child is asked, and what becomes of the answer."""

import errno
import json
from typing import Any

import pytest

from model_service.jobs.context import Context
from model_service.jobs.evaluate import evaluate
from model_service.jobs.queue import EVALUATIONS, Queue
from model_service.jobs.reconcile import Reconciler
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.states import InspectionStatus
from model_service.storage.blobs.references import held_blobs
from tests.api.inspected import FOUND
from tests.factories import model_fields
from tests.jobs.scripted import PROGRESS, script
from tests.jobs.test_inspect import new_dataset

RESULT = {
    "metrics": {"accuracy": {"value": 0.5, "interval": [0.25, 0.75]}},
    "samples": 4,
    "performance": {"p50_ms": 1.5, "p99_ms": 2.0},
    "confusion": [[1, 1], [1, 1]],
    "code_versions": {"torch": "2"},
}


def new_evaluation(context: Context, services: Services, **fields: Any) -> str:
    model = services.models.register(model_fields())
    new = NewFile.of_holder("m", "m.pt2", None)
    services.files.store(model, iter([b"a model"]), new, sha256=None)
    dataset_id = new_dataset(services)
    begun = context.stores.inspections.begin(dataset_id, 60)
    assert begun is not None
    assert context.stores.inspections.end(begun, InspectionStatus.READY, FOUND)
    sent: Any = {
        "model_id": str(model["_id"]),
        "export_job_id": None,
        "dataset_id": dataset_id,
        "metrics": ["accuracy"],
        "samples": 3,
        "seed": 7,
        "source_config": {"classes": ["a", "b", "c"]},
        **fields,
    }
    return services.evaluations.create(sent)["_id"]


def test_the_child_gets_the_model_and_the_data_and_its_metrics_are_stored(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = script(context, monkeypatch, PROGRESS, {"event": "completed", "result": RESULT})
    evaluation_id = new_evaluation(context, services)
    evaluate(evaluation_id)
    done = services.evaluations.get(evaluation_id)
    assert (done["status"], done["results"]) == ("completed", RESULT["metrics"])
    assert (done["evaluated_samples"], done["performance"]) == (4, RESULT["performance"])
    assert (done.get("confusion"), done["code_versions"]) == (RESULT["confusion"], RESULT["code_versions"])
    assert any("running the model" in line for line in done["log"])
    (asked,) = map(json.loads, heard.read_text().splitlines())
    request = asked["request"]
    assert asked["command"] == "evaluate"
    assert request["source"].endswith("source.pt2")
    assert request["package"] is None
    assert request["dataset"]["path"].endswith("dataset-test.npz")
    assert {name: request["dataset"][name] for name in ("format", "schema", "name", "version")} == {
        "format": "npz",
        "schema": {"label": "y"},
        "name": "numbers",
        "version": "v1.0",
    }
    assert request["dataset"]["checksum"] == done["dataset_checksum"]
    chosen = {name: request[name] for name in ("metrics", "samples", "seed", "classes", "options")}
    expected = {"metrics": ["accuracy"], "samples": 3, "seed": 7, "classes": ["a", "b", "c"], "options": {}}
    assert chosen == expected
    (shown,) = services.models.get(str(done["model_id"]))["evaluations"]
    assert (shown["evaluation_id"], shown["metrics"]) == (evaluation_id, {"accuracy": 0.5})
    assert (shown["dataset_name"], shown["samples"]) == ("numbers", 4)
    evaluate(evaluation_id)  # delivered twice: nothing happens
    assert services.evaluations.get(evaluation_id)["attempts"] == 1


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_an_ended_evaluation_holds_no_file(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    failure = {"event": "failed", "code": "invalid_dataset", "message": "Row 3 has NaN."}
    script(context, monkeypatch, PROGRESS, {"event": "completed", "result": RESULT}, failure)
    if ending == "failed":
        script(context, monkeypatch, PROGRESS, failure)
    evaluation_id = new_evaluation(context, services)
    counts = {held["_id"]: held["count"] for held in held_blobs(context.stores.database, None)}
    assert set(counts.values()) == {2}
    evaluate(evaluation_id)
    done = services.evaluations.get(evaluation_id)
    assert done["status"] == ending
    if ending == "failed":
        assert (done["error_code"], done["error_message"]) == ("invalid_dataset", "Row 3 has NaN.")
    stored = {file["_id"]: file["metadata"]["references"] for file in context.stores.database.files.find()}
    assert stored == dict.fromkeys(counts, 1)
    assert {held["count"] for held in held_blobs(context.stores.database, None)} == {1}


@pytest.mark.parametrize(
    "metrics", [None, {"accuracy": 0.5}, {"accuracy": {"value": "high", "interval": None}}]
)
def test_a_result_of_another_form_fails_the_evaluation_after_its_attempts(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch, metrics: Any
) -> None:
    script(context, monkeypatch, PROGRESS, {"event": "completed", "result": {**RESULT, "metrics": metrics}})
    evaluation_id = new_evaluation(context, services)
    for _ in range(context.settings.job_max_attempts):
        assert services.evaluations.get(evaluation_id)["status"] == "pending"
        evaluate(evaluation_id)
    done = services.evaluations.get(evaluation_id)
    assert (done["status"], done["error_code"]) == ("failed", "internal_error")


def test_the_reconciler_recovers_evaluations_of_lost_workers(
    context: Context, services: Services, queue: Queue
) -> None:
    evaluation_id = new_evaluation(context, services)
    store = context.stores.evaluations
    reconciler = Reconciler(context, queue)
    for attempt in range(1, context.settings.job_max_attempts + 1):
        job = store.claim(evaluation_id, worker="lost", lease_s=60, max_attempts=3)
        assert job is not None
        token = job["lease"]["token"]
        store.report(evaluation_id, token, percent=50, message="running", progress_step="evaluate")
        assert store.renew(evaluation_id, token, -3600)
        reconciler.reconcile()
        if attempt < context.settings.job_max_attempts:
            assert services.evaluations.get(evaluation_id)["status"] == "pending"
            assert evaluation_id in queue.waiting(EVALUATIONS)
    done = services.evaluations.get(evaluation_id)
    assert (done["status"], done["error_code"]) == ("failed", "worker_lost")
    assert "ran this evaluation" in done["error_message"]
    assert {held["count"] for held in held_blobs(context.stores.database, None)} == {1}


def test_an_evaluation_whose_disk_stays_full_is_not_to_be_retried_but_created_again(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("model_service.jobs.evaluate.fetch", full)
    evaluation_id = new_evaluation(context, services)
    for _ in range(context.settings.job_max_attempts):
        evaluate(evaluation_id)
    done = services.evaluations.get(evaluation_id)
    assert (done["status"], done["error_code"]) == ("failed", "disk_full")
    assert str(done["error_message"]).endswith("and create a new evaluation.")
