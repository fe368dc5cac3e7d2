"""What a worker makes of jobs that are cancelled, were made before, or are of several files."""

import threading
import time
from dataclasses import replace
from typing import Any

import psutil

from model_service.jobs.context import Context
from model_service.jobs.export import export
from model_service.services import Services
from model_service.services.files.files import NewFile
from tests.api.finished import complete
from tests.factories import scaling_program
from tests.jobs.test_export import DEADLINE_S, _in_context, children, new_job
from tests.waiting import wait_for


def test_the_conversion_of_a_cancelled_job_is_killed_soon(context: Context, services: Services) -> None:
    job_id = new_job(services, scaling_program())
    runner = threading.Thread(target=_in_context, args=(context, job_id))
    runner.start()
    child = wait_for(children, "the child")[0]
    job = services.exports.get(job_id)
    assert (job["status"], job["worker"]) == ("running", "test-worker")
    began = time.monotonic()
    services.export_changes.cancel(job_id)
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child's end")
    assert time.monotonic() - began < 5
    runner.join(DEADLINE_S)
    assert services.exports.get(job_id)["status"] == "cancelled"
    assert list(context.stores.integrity.wrong_holdings()) == []


def test_a_worker_that_takes_up_what_was_made_meanwhile_makes_it_no_second_time(
    context: Context, services: Services
) -> None:
    first = new_job(services, b"no model: a conversion would fail")
    model_id = str(services.exports.get(first)["model_id"])
    request: dict[str, Any] = {"model_id": model_id, "export_format": "onnx", "export_config": {}}
    absent = ("training_job_id", "version_tag", "optimization_config", "validation_config")
    request |= dict.fromkeys(absent)
    second = services.exports.create(**request)["_id"]
    assert context.toolchain is not None
    complete(context.stores.database, first, toolchain=context.toolchain.digest)
    export(second)
    job = services.exports.get(second)
    assert (job["status"], job["reused_from"]) == ("completed", first)
    assert list(context.stores.integrity.wrong_holdings()) == []

    third = services.exports.create(**request)["_id"]
    newer = replace(context, toolchain=replace(context.toolchain, digest="other tools"))
    _in_context(newer, third)
    assert services.exports.get(third)["status"] == "failed"  # it was converted, or was to be


def test_a_version_of_several_files_is_converted_and_let_go(context: Context, services: Services) -> None:
    job_id = new_job(services, scaling_program())
    services.export_changes.cancel(job_id)
    model_id = str(services.exports.get(job_id)["model_id"])
    model = services.models.get(model_id)
    services.files.store(model, iter([b"one\ntwo"]), NewFile.at("notes/labels.txt"), sha256=None)
    request: dict[str, Any] = {"model_id": model_id, "export_format": "onnx", "export_config": {}}
    absent = ("training_job_id", "version_tag", "optimization_config", "validation_config")
    created = services.exports.create(**request | dict.fromkeys(absent))
    assert [file["path"] for file in created["source"]["files"]] == ["model.pt2", "notes/labels.txt"]
    services.models.delete(model_id, purge=True)
    context.stores.blobs.sweep(safety_s=-1)
    export(created["_id"])
    job = services.exports.get(created["_id"])
    assert job["status"] == "completed", job["log"]
    assert job["toolchain"] == "these tools"
    assert job["process_id"] > 1
    assert list(context.stores.integrity.wrong_holdings()) == []
    context.stores.blobs.sweep(safety_s=-1)
    assert [file["_id"] for file in context.stores.database.files.find()] == [job["package"]["file_id"]]
