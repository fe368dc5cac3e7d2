"""The stored state of a training: replaced by each epoch, released with the job, and never a link."""

from pathlib import Path
from typing import Any

import pytest

from exporters.optimize.states import CHECKPOINT
from model_service.jobs.context import Context
from model_service.jobs.leased import JobLost
from model_service.jobs.training_state import TrainingState
from model_service.services import Services
from model_service.storage.common.db import Database
from model_service.storage.exports.documents import ExportJob
from tests.api.finished import wrong_references
from tests.jobs.test_on_data import new_model


def claimed(context: Context, services: Services) -> ExportJob:
    fields: Any = {
        "training_job_id": None,
        "export_format": "onnx",
        "export_config": {},
        "optimization_config": None,
        "validation_config": None,
        "version_tag": None,
    }
    job_id = services.exports.create(model_id=new_model(services), **fields)["_id"]
    job = context.stores.exports.claim(job_id, worker="one", lease_s=60, max_attempts=3)
    assert job is not None
    return job


def write(state: TrainingState, content: bytes) -> None:
    """Write the file as the child does: under another name first."""
    written = state.folder / "new"
    written.write_bytes(content)
    written.rename(state.folder / CHECKPOINT)


def test_the_state_is_replaced_continued_and_released(
    context: Context, services: Services, database: Database, tmp_path: Path
) -> None:
    job = claimed(context, services)
    (tmp_path / "first").mkdir()
    state = TrainingState(context, job, tmp_path / "first")
    state.fetch()
    assert list(state.folder.iterdir()) == []
    state.store()  # nothing is there yet
    for content in (b"epoch 1" * 100_000, b"epoch 2" * 100_000):
        write(state, content)
        state.store()
        state.store()
    assert wrong_references(database) == []
    continued = context.stores.exports.get(job["_id"])
    assert continued is not None
    (tmp_path / "second").mkdir()
    folder = TrainingState(context, continued, tmp_path / "second").fetch()
    assert (folder / CHECKPOINT).read_bytes() == b"epoch 2" * 100_000
    services.export_changes.cancel(job["_id"])
    assert wrong_references(database) == []
    write(state, b"epoch 3")
    with pytest.raises(JobLost):
        state.store()
    assert wrong_references(database) == []


def test_what_an_untrusted_child_links_to_is_not_stored(
    context: Context, services: Services, database: Database, tmp_path: Path
) -> None:
    job = claimed(context, services)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / CHECKPOINT).write_bytes(b"of the worker")
    state = TrainingState(context, job, tmp_path)
    state.fetch()
    (state.folder / CHECKPOINT).symlink_to(secret / CHECKPOINT)
    state.store()
    (state.folder / CHECKPOINT).unlink()
    (state.folder / CHECKPOINT).mkdir()
    state.store()
    (state.folder / CHECKPOINT).rmdir()
    state.folder.rmdir()
    state.folder.symlink_to(secret)
    state.store()
    stored = context.stores.exports.get(job["_id"])
    assert stored is not None
    assert "training_state" not in stored
