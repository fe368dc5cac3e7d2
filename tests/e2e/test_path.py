"""One model through the whole service, and what survives when parts of it are killed."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from exporters import package as packages
from model_service.client import Deployment, ExportFailed, ModelServiceClient, Unauthorized
from tests.e2e.conftest import Stack, wait_for
from tests.factories import new_model, scaling_program

X = np.asarray([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "scale.pt2"
    path.write_bytes(scaling_program(2.0))
    return path


@pytest.fixture(scope="module")
def deployment(stack: Stack, program: Path) -> Deployment:
    with ModelServiceClient(stack.report["api"]) as client:
        model_id = client.register_model(new_model(name="deployed"))
        client.upload_model(model_id, program)
        job = client.wait_for_export(client.create_export(model_id, "onnx"))
        return client.wait_for_deployment(client.create_deployment(job.id, "deployed"))


def twice(client: ModelServiceClient, deployment: Deployment) -> bool:
    return np.array_equal(client.predict(deployment, X).outputs["output"], 2 * X)


def run_cli(stack: Stack, *arguments: str) -> Any:
    command = [sys.executable, "-m", "model_service.cli", "--url", stack.report["api"], *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_endpoint_answers_and_counts(client: ModelServiceClient, deployment: Deployment) -> None:
    assert twice(client, deployment)
    assert deployment.api_key is not None
    with pytest.raises(Unauthorized):
        client.predict(deployment, X, api_key="pk_wrong")
    wait_for(lambda: client.get_deployment(deployment.id).request_count >= 1, "the request to be counted")


def test_the_same_path_from_a_shell(stack: Stack, program: Path, tmp_path: Path) -> None:
    model = run_cli(stack, "models", "register", "shell", "scaling", "--file", str(program))
    job = run_cli(stack, "exports", "create", model["id"], "--wait")
    assert job["status"] == "completed"
    run_cli(stack, "exports", "download", job["id"], str(tmp_path / "package.zip"))
    packages.unpack(tmp_path / "package.zip", tmp_path / "package")
    packages.verify(tmp_path / "package")
    deployed = run_cli(stack, "deployments", "create", job["id"], "shell", "--wait")
    np.save(tmp_path / "x.npy", X)
    answer = run_cli(stack, "predict", deployed["id"], str(tmp_path / "x.npy"), "--key", deployed["api_key"])
    assert answer["outputs"] == {"output": (2 * X).tolist()}


def test_a_file_that_is_no_model_fails_with_a_reason(client: ModelServiceClient, tmp_path: Path) -> None:
    shopping_list = tmp_path / "model.pt2"
    shopping_list.write_text("milk, bread")
    model_id = client.register_model(new_model(name="no-model"))
    client.upload_model(model_id, shopping_list)
    with pytest.raises(ExportFailed) as failure:
        client.wait_for_export(client.create_export(model_id, "onnx"))
    assert failure.value.code == "invalid_source"
    assert "Traceback" not in str(failure.value)


@pytest.mark.parametrize("name", ["mongod", "redis", "worker", "inference", "api"])
def test_after_a_kill_the_whole_path_works_again(
    stack: Stack, client: ModelServiceClient, deployment: Deployment, program: Path, name: str
) -> None:
    content = os.urandom(9_000_000)
    model_id = client.register_model(new_model(name="kept"))
    kept = stack.data_dir / "kept.bin"
    kept.write_bytes(content)
    client.upload_model(model_id, kept)
    stack.kill(name)
    wait_for(lambda: twice(client, deployment), "the endpoint to answer")
    back = wait_for(lambda: client.download_model(model_id, stack.data_dir / "back.bin"), "the file")
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(content).digest()
    new_id = wait_for(lambda: client.register_model(new_model(name="after")), "a registration")
    client.upload_model(new_id, program)
    job = wait_for(lambda: client.create_export(new_id, "onnx"), "an export job")
    assert client.wait_for_export(job, timeout_s=120).status == "completed"


@pytest.mark.parametrize("name", ["worker", "mongod", "redis"])
def test_a_running_export_is_finished_all_the_same(
    stack: Stack, client: ModelServiceClient, program: Path, name: str
) -> None:
    model_id = client.register_model(new_model(name="killed"))
    client.upload_model(model_id, program)
    job = client.create_export(model_id, "onnx")
    steps_before = (None, "fetch", "start")  # a try that ends in them is not counted
    wait_for(
        lambda: client.get_export(job.id).raw["progress_step"] not in steps_before, "the model to be read"
    )
    stack.kill(name)
    done = wait_for(lambda: (seen := client.get_export(job.id)).ended and seen, "the export to end")
    assert done.status == "completed", done.log
    assert done.raw["attempts"] == (2 if name == "worker" else 1)


def test_an_upload_that_mongod_dies_under_is_never_half_there(
    stack: Stack, client: ModelServiceClient
) -> None:
    content = os.urandom(60_000_000)
    path = stack.data_dir / "big.bin"
    path.write_bytes(content)
    model_id = client.register_model(new_model(name="interrupted"))
    killer = threading.Timer(0.15, stack.kill, ["mongod"])
    killer.start()
    try:
        client.upload_model(model_id, path)
        acknowledged = True
    except Exception:
        acknowledged = False
    killer.join()
    model = wait_for(lambda: client.get_model(model_id), "the registry")
    if acknowledged or model.file_metadata is not None:
        back = client.download_model(model_id, stack.data_dir / "big-back.bin")
        assert back.read_bytes() == content
    client.upload_model(model_id, path)
    assert client.download_model(model_id, stack.data_dir / "big-back.bin").read_bytes() == content


@pytest.mark.large
def test_four_gibibytes_pass_through_in_constant_memory(stack: Stack, client: ModelServiceClient) -> None:
    allowed, size = 150 * 2**20, 4 * 2**30
    path = stack.data_dir / "huge.bin"
    block = os.urandom(2**23)
    with path.open("wb") as file:
        for number in range(size // len(block)):
            file.write(number.to_bytes(8, "little") + block[8:])
    processes = psutil.Process(stack.report["pids"]["api"])
    api = [processes, *processes.children(recursive=True)]
    idle = [process.memory_info().rss for process in api]
    model_id = client.register_model(new_model(name="huge"))
    client.upload_model(model_id, path)
    back = client.download_model(model_id, stack.data_dir / "huge-back.bin")
    assert back.stat().st_size == size  # the client has compared the sha256
    for process, before in zip(api, idle, strict=True):
        assert peak_memory_bytes(process.pid) - before <= allowed


def peak_memory_bytes(pid: int) -> int:
    """The most it ever held, as Linux counts it (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
