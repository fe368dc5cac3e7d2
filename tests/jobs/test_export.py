"""The export job with a real conversion in a real child process."""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from prometheus_client import Counter

from exporters import package as packages
from model_service.jobs import converter
from model_service.jobs import export as export_module
from model_service.jobs.context import Context
from model_service.jobs.converter import Converter
from model_service.jobs.export import export
from model_service.jobs.queue import EXPORTS, Queue
from model_service.jobs.reconcile import Reconciler
from model_service.metrics import EXPORT_FAILURES, LEASES_LOST, count_failure
from model_service.services import Services
from model_service.services.files.files import NewFile
from tests.factories import model_fields, scaling_program, scaling_script
from tests.waiting import wait_for

DEADLINE_S = 60


def new_job(services: Services, content: bytes, filename: str = "model.pt2", **config: Any) -> str:
    model = services.models.register(model_fields())
    model_id = str(model["_id"])
    services.files.store(model, iter([content]), NewFile.of_holder(model["name"], filename), sha256=None)
    job = services.exports.create(
        model_id=model_id,
        training_job_id=None,
        export_format="onnx",
        export_config=config,
        optimization_config=None,
        validation_config=None,
        version_tag=None,
    )
    return str(job["_id"])


def counter(metric: Counter, *labels: str) -> float:
    """The value of a counter in this process."""
    (family,) = (metric.labels(*labels) if labels else metric).collect()
    return family.samples[0].value


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "exporters" in child.cmdline()]


def test_an_export_is_proven_and_its_package_can_be_had(
    context: Context, services: Services, tmp_path: Path
) -> None:
    job_id = new_job(services, scaling_program(), classes=["a", "b", "c"])
    export(job_id)
    job = services.exports.get(job_id)
    assert job["status"] == "completed", job["log"]
    assert job["progress_percent"] == 100
    assert job["fidelity"]["verdict"] == "verified"
    assert job["fidelity"]["outputs"]["output"]["top1_agreement"] == 1
    assert job["optimization_stats"]["original_size_mb"] > 0
    assert job["log"]
    assert job["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]
    assert [spec["name"] for spec in job["outputs"]] == ["output"]
    file = services.exports.open_package(job_id)
    archive = tmp_path / "package.zip"
    archive.write_bytes(b"".join(file.read(0, file.size_bytes)))
    packages.unpack(archive, tmp_path / "package")
    assert "model.onnx" in packages.verify(tmp_path / "package").files
    assert job["model_size_bytes"] == (tmp_path / "package" / "model.onnx").stat().st_size
    assert [path.name for path in context.settings.home.glob("work/*/*")] == ["lock"]
    export(job_id)  # delivered twice: nothing happens
    assert services.exports.get(job_id)["attempts"] == 1


def test_torchscript_is_converted_too(context: Context, services: Services) -> None:
    inputs = [{"name": "x", "shape": ["batch", 3], "dtype": "float32"}]
    job_id = new_job(services, scaling_script(), "model.ts", inputs=inputs)
    export(job_id)
    job = services.exports.get(job_id)
    assert job["status"] == "completed", job["log"]
    assert job["fidelity"]["verdict"] == "verified"


class RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("echo pwned > /tmp/model-service-pwned",)


def hostile_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(RunsCode()))
        archive.writestr("model/version", "3")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "filename", "codes"),
    [
        (b"this is a shopping list", "model.pt2", {"invalid_source"}),
        (scaling_program()[:-3000], "model.pt2", {"invalid_source"}),
        (pickle.dumps(RunsCode()), "model.pt", {"invalid_source", "unsafe_checkpoint"}),
        (hostile_archive(), "model.pt", {"invalid_source", "unsafe_checkpoint"}),
    ],
    ids=["text", "cut short", "pickle", "archive with a pickle"],
)
def test_what_is_no_model_fails_with_a_code_and_a_sentence(
    context: Context, services: Services, content: bytes, filename: str, codes: set[str]
) -> None:
    job_id = new_job(services, content, filename)
    export(job_id)
    job = services.exports.get(job_id)
    assert (job["status"], job["error_code"] in codes) == ("failed", True), job
    assert len(job["error_message"]) > 20
    assert "Traceback" not in job["error_message"]
    assert not Path("/tmp/model-service-pwned").exists()
    assert "package" not in job


def test_a_child_that_is_killed_while_it_converts_fails_its_job_and_not_the_worker(
    context: Context, services: Services
) -> None:
    job_id = new_job(services, scaling_program())
    runner = threading.Thread(target=_in_context, args=(context, job_id))
    runner.start()
    wait_for(lambda: services.exports.get(job_id).get("progress_step") == "load", "the model to be read")
    children()[0].send_signal(signal.SIGKILL)
    runner.join(DEADLINE_S)
    job = services.exports.get(job_id)
    assert (job["status"], job["error_code"]) == ("failed", "limit_exceeded")


def test_a_child_that_is_killed_before_it_has_read_the_model_is_replaced(
    context: Context, services: Services
) -> None:
    job_id = new_job(services, scaling_program())
    runner = threading.Thread(target=_in_context, args=(context, job_id))
    runner.start()
    killed = wait_for(children, "the child")[0]
    killed.send_signal(signal.SIGKILL)
    runner.join(DEADLINE_S)
    job = services.exports.get(job_id)
    assert (job["status"], job["attempts"]) == ("completed", 1), job
    assert job["process_id"] != killed.pid


@pytest.mark.parametrize("way", ["killed", "ends"])
def test_children_that_never_read_the_model_fail_the_job_after_its_attempts(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    endings = {"killed": "import os; os.kill(os.getpid(), 9)", "ends": "raise SystemExit(1)"}
    program = context.settings.home / "python"
    program.write_text(f"#!{sys.executable}\n{endings[way]}\n")
    program.chmod(0o755)
    monkeypatch.setattr("model_service.jobs.converter.sys", SimpleNamespace(executable=str(program)))
    job_id = new_job(services, scaling_program())
    for attempt in range(1, context.settings.job_max_attempts + 1):
        job = services.exports.get(job_id)
        assert (job["status"], job["attempts"]) == ("pending", attempt - 1)
        export(job_id)
    job = services.exports.get(job_id)
    assert (job["status"], job["error_code"]) == ("failed", "internal_error")


def test_text_of_a_converter_that_cannot_be_stored_is_replaced(
    context: Context, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a surrogate pair, which JSON can escape, but which is no text of MongoDB."""
    program = context.settings.home / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json\n"
        "print(json.dumps({'event': 'ready'}), flush=True)\n"
        "input()\n"
        "half = 'half \\ud800'\n"
        "print(json.dumps({'event': 'progress', 'percent': 1.0, 'message': half, 'step': half}))\n"
        "print(json.dumps({'event': 'failed', 'code': 'conversion_failed', 'message': half}))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("model_service.jobs.converter.sys", SimpleNamespace(executable=str(program)))
    job_id = new_job(services, scaling_program())
    export(job_id)
    job = services.exports.get(job_id)
    assert (job["status"], job["error_code"], job["attempts"]) == ("failed", "conversion_failed", 1), job
    assert "half ?" in job["error_message"]


@pytest.mark.parametrize("line", [b"no JSON", b'"a text"', b"[" * 100_000, b'{"event": ' * 100_000])
def test_a_line_that_is_no_event(line: bytes) -> None:
    assert converter._parse(line) is None


def test_a_worker_that_is_stopped_hands_its_job_back(context: Context, services: Services) -> None:
    job_id = new_job(services, scaling_program())
    runner = threading.Thread(target=_in_context, args=(context, job_id))
    runner.start()
    wait_for(children, "the child")
    context.stopping.set()
    runner.join(DEADLINE_S)
    assert children() == []
    job = services.exports.get(job_id)
    assert (job["status"], job["attempts"]) == ("pending", 0)


def test_a_killed_workers_job_is_found_and_finished(
    context: Context, services: Services, queue: Queue, tmp_path: Path
) -> None:
    job_id = new_job(services, scaling_program())
    assert context.stores.exports.claim(job_id, worker="killed", lease_s=0.05, max_attempts=3)
    wait_for(lambda: context.stores.export_turns.waiting(max_attempts=3) == [job_id], "the lease to run out")
    Reconciler(context, queue).reconcile()
    assert queue.waiting(EXPORTS).count(job_id) == 1
    Reconciler(context, queue).reconcile()
    assert queue.waiting(EXPORTS).count(job_id) == 1  # enqueued once, however often it is found
    export(job_id)
    job = services.exports.get(job_id)
    assert (job["status"], job["attempts"]) == ("completed", 1)  # the first read nothing


def test_a_job_that_lost_its_worker_too_often_fails_with_a_reason(
    context: Context, services: Services, queue: Queue
) -> None:
    job_id = new_job(services, scaling_program())
    settings = context.settings.model_copy(update={"job_max_attempts": 1, "job_lease_s": 0.1})
    assert context.stores.exports.claim(job_id, worker="killed", lease_s=0.05, max_attempts=1)
    lost, failed = counter(LEASES_LOST), counter(EXPORT_FAILURES, "worker_lost")
    reconciler = Reconciler(replace(context, settings=settings), queue)

    def given_up() -> bool:
        reconciler.reconcile()
        return bool(services.exports.get(job_id)["status"] == "failed")

    wait_for(given_up, "the job to be given up")
    job = services.exports.get(job_id)
    assert job["error_code"] == "worker_lost"
    assert (counter(LEASES_LOST), counter(EXPORT_FAILURES, "worker_lost")) == (lost + 1, failed + 1)
    assert "EXPORT_MEMORY" in job["error_message"]
    assert context.stores.export_turns.waiting(max_attempts=3) == []


def test_a_lease_is_lost_once_whoever_notices(context: Context, services: Services, queue: Queue) -> None:
    lost = counter(LEASES_LOST)
    first, second = (new_job(services, scaling_program()) for _ in range(2))
    for job_id in (first, second):
        assert context.stores.exports.claim(job_id, worker="killed", lease_s=-60, max_attempts=3)
    assert counter(LEASES_LOST) == lost  # they waited
    assert context.stores.exports.claim(first, worker="another", lease_s=60, max_attempts=3)
    assert counter(LEASES_LOST) == lost + 1
    for _ in range(2):
        Reconciler(context, queue).reconcile()
    assert counter(LEASES_LOST) == lost + 2


def test_failures_are_counted_by_a_known_code(context: Context, services: Services) -> None:
    before = {code: counter(EXPORT_FAILURES, code) for code in ("invalid_source", "other")}
    export(new_job(services, b"this is a shopping list"))
    assert counter(EXPORT_FAILURES, "invalid_source") == before["invalid_source"] + 1
    count_failure("invented by a converter")
    assert counter(EXPORT_FAILURES, "other") == before["other"] + 1


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_an_ended_job_holds_no_file_but_its_package(
    context: Context, services: Services, ending: str
) -> None:
    content = scaling_program() if ending == "completed" else b"this is a shopping list"
    job_id = new_job(services, content)
    export(job_id)
    job = services.exports.get(job_id)
    assert job["status"] == ending
    services.models.delete(str(job["model_id"]), purge=True)
    context.stores.blobs.sweep(safety_s=-1)
    left = [file["_id"] for file in context.stores.database.files.find()]
    assert left == ([job["package"]["file_id"]] if ending == "completed" else [])


def test_the_job_says_how_its_conversion_was_isolated(context: Context, services: Services) -> None:
    job_id = new_job(services, scaling_program())
    export(job_id)
    environment = services.exports.get(job_id)["environment"]
    assert environment["network"].startswith(("isolated", "open: "))
    assert environment["files"].startswith(("isolated", "open: "))
    assert environment["limits"]["memory_bytes"] == context.settings.export_memory


def test_a_worker_clears_away_what_dead_ones_left_and_nothing_else(context: Context) -> None:
    work = context.settings.home / "work"
    (work / ".DS_Store").touch()
    dead = work / "worker-dead"
    dead.mkdir()
    (dead / "lock").touch()
    living = [folder for folder in work.glob("worker-*") if folder != dead]
    Converter(context.settings).close()
    assert not dead.exists()
    assert [folder.exists() for folder in living] == [True]


def test_a_job_whose_model_was_deleted_is_converted_all_the_same(
    context: Context, services: Services
) -> None:
    job_id = new_job(services, scaling_program())
    services.models.delete(str(services.exports.get(job_id)["model_id"]), purge=True)
    context.stores.blobs.sweep(safety_s=-1)
    export(job_id)
    assert services.exports.get(job_id)["status"] == "completed"


def test_the_conversion_sees_nothing_of_the_workers_environment(context: Context) -> None:
    child = context.converter.take()
    try:
        environment = psutil.Process(child.process.pid).environ()
        assert set(environment) <= {"HOME", "TMPDIR", "LANG", "LC_CTYPE"}
    finally:
        child.close()


def _in_context(context: Context, job_id: str) -> None:
    export_module.CONTEXT.set(context)
    export(job_id)


def test_conversions_die_with_their_worker(context: Context, tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from model_service.config import read_settings\n"
        "from model_service.jobs.converter import Converter\n"
        f"converter = Converter(read_settings(model_service_home=Path({str(tmp_path)!r})))\n"
        "converter.prewarm()\n"
        "print(converter.take().process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        wait_for(lambda: _dies_with_parent(child), "the child to ask to die with its parent")
        worker.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child's end")


def _dies_with_parent(child: psutil.Process) -> bool:
    """It has said so once it imports the frameworks, which takes it past 100 MB."""
    return bool(child.memory_info().rss > 100_000_000)
