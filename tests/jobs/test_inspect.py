"""The inspection of a dataset's data file: what its child is asked, and what becomes of the answer."""

import json
from typing import Any

import pytest

from model_service.jobs import inspect as inspect_module
from model_service.jobs.context import Context
from model_service.jobs.inspect import inspect
from model_service.jobs.queue import INSPECTIONS, Queue
from model_service.jobs.reconcile import Reconciler
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.storage.datasets.documents import NEVER
from tests.api.inspected import FOUND, arrays
from tests.jobs.scripted import script


def new_dataset(services: Services, content: bytes | None = None, **fields: Any) -> str:
    registered = services.datasets.register(
        {  # type: ignore[typeddict-item]
            "name": "numbers",
            "version": None,
            "format": "npz",
            "schema": {"label": "y"},
            "task_type": None,
            **fields,
        }
    )
    new = NewFile.of_holder("d", "d.npz", None)
    services.dataset_files.store(registered, iter([content or arrays()]), new, sha256=None)
    return str(registered["_id"])


def summary_of(services: Services, dataset_id: str) -> Any:
    return services.datasets.get(dataset_id).get("summary")


def test_a_dataset_is_inspected_and_its_summary_stored(
    context: Context, services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = script(context, monkeypatch, {"event": "completed", "result": {**FOUND, "other": 1}})
    dataset_id = new_dataset(services)
    Reconciler(context, queue).reconcile()
    assert queue.waiting(INSPECTIONS) == [dataset_id]
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], summary["num_samples"]) == ("ready", 4)
    assert "other" not in summary
    (asked,) = map(json.loads, heard.read_text().splitlines())
    assert asked["command"] == "inspect-dataset"
    assert asked["request"]["dataset"]["format"] == "npz"
    inspect(dataset_id)  # delivered twice: nothing happens
    assert len(heard.read_text().splitlines()) == 1


def test_a_file_that_cannot_be_loaded_has_the_reason_in_its_summary(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(context, monkeypatch, {"event": "failed", "code": "invalid_dataset", "message": "It is a cat."})
    dataset_id = new_dataset(services)
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], summary["error"]) == ("failed", "It is a cat.")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"num_samples": "many"}, "invalid description"),
        ({"num_samples": 2**63}, "invalid description"),
        ({"inputs": 3}, "invalid description"),
        ({"warnings": ["x" * 300_000]}, "larger than 256 KiB"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_the_inspection_at_once(
    context: Context,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    reason: str,
) -> None:
    script(context, monkeypatch, {"event": "completed", "result": {**FOUND, **found}})
    dataset_id = new_dataset(services)
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], reason in str(summary["error"])) == ("failed", True), summary


def test_values_and_names_that_mongodb_cannot_store_are_replaced(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"id": 2**64 - 1, "least": -(2**63), "a\0b": "c\0d", "$ref": "x", "$id": 1, "deep": [[2**63]]}
    found = {"first_rows": [row], "class_counts": {"cat\0": 2, "$set": 2}}
    script(context, monkeypatch, {"event": "completed", "result": {**FOUND, **found}})
    dataset_id = new_dataset(services)
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], summary["class_counts"]) == ("ready", {"cat?": 2, "?set": 2})
    (shown,) = summary["first_rows"]
    assert (shown["id"], shown["least"], shown["a?b"]) == (str(2**64 - 1), -(2**63), "c?d")
    assert (shown["?ref"], shown["?id"], shown["deep"]) == ("x", 1, [[str(2**63)]])


def test_first_rows_that_are_too_large_are_left_out(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"first_rows": [{"text": "x" * 300_000}], "warnings": ["All rows are of one class."]}
    script(context, monkeypatch, {"event": "completed", "result": {**FOUND, **found}})
    dataset_id = new_dataset(services)
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], summary["num_samples"], summary["first_rows"]) == ("ready", 4, [])
    assert summary["warnings"] == ["All rows are of one class.", "The first rows are too large to be shown."]


def test_a_fault_of_the_service_is_tried_again_soon_and_then_named(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(context, monkeypatch)  # the child ends without a word
    dataset_id = new_dataset(services)
    inspect(dataset_id)
    assert context.stores.inspections.waiting() == []  # it pauses
    context.stores.database.datasets.update_one({}, {"$set": {"inspection.leased_until": NEVER}})
    monkeypatch.setattr(inspect_module, "_PAUSE_S", -1.0)
    inspect(dataset_id)
    assert summary_of(services, dataset_id)["status"] == "pending"
    assert context.stores.inspections.waiting() == [dataset_id]
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], "The service failed" in summary["error"]) == ("failed", True), summary


def test_a_file_that_always_kills_its_worker_is_given_up(context: Context, services: Services) -> None:
    dataset_id = new_dataset(services)
    for _ in range(3):
        assert context.stores.inspections.begin(dataset_id, -1.0) is not None
    inspect(dataset_id)
    summary = summary_of(services, dataset_id)
    assert (summary["status"], summary["error"]) == ("failed", "The inspection of the file did not finish.")
