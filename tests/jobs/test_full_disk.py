"""A worker whose disk is full: a job waits, or is tried again and then says why it failed."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Converter
from model_service.jobs.export import export
from model_service.jobs.queue import Queue
from model_service.jobs.reconcile import Reconciler
from model_service.jobs.scan import scan
from model_service.services import Services
from model_service.storage.blobs.disk_space import DiskSpace
from tests.factories import scaling_program
from tests.jobs.test_export import new_job


@pytest.fixture
def small_workspace(context: Context, tmp_path: Path) -> Iterator[Context]:
    """The workspace of the worker is a file system of 20 MB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    settings = context.settings.model_copy(
        update={"model_service_home": folder, "disk_min_free": 5_000_000, "job_max_attempts": 2}
    )
    settings.__dict__.pop("home", None)  # computed from the other folder
    converter = Converter(settings)
    small = replace(
        context, settings=settings, converter=converter, disk=DiskSpace(settings, context.stores.database)
    )
    token = CONTEXT.set(small)
    try:
        yield small
    finally:
        CONTEXT.reset(token)
        converter.close()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_waits_until_the_workspace_has_room(
    small_workspace: Context, services: Services, queue: Queue
) -> None:
    folder = small_workspace.settings.home
    job_id = new_job(services, scaling_program())
    model_id = services.exports.get(job_id)["model_id"]
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free - 3_000_000))
    export(job_id)
    scan(str(model_id))
    waiting = services.exports.get(job_id)
    assert (waiting["status"], waiting["attempts"]) == ("pending", 0)
    Reconciler(small_workspace, queue).reconcile()
    assert services.models.get(str(model_id))["files"][0].get("scan") is None
    ballast.unlink()
    export(job_id)
    assert services.exports.get(job_id)["status"] == "completed"


def test_a_job_that_fills_the_disk_is_tried_again_and_then_says_so(
    small_workspace: Context, services: Services
) -> None:
    job_id = new_job(services, bytes(25_000_000))
    export(job_id)
    again = services.exports.get(job_id)
    assert (again["status"], again["attempts"]) == ("pending", 1)
    assert again["log"][-1].endswith("Attempt 1 ended with disk_full; the job is tried again.")
    export(job_id)
    failed = services.exports.get(job_id)
    assert (failed["status"], failed["error_code"]) == ("failed", "disk_full")
    assert "MODEL_SERVICE_HOME/work" in failed["error_message"]
