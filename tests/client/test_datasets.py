"""Datasets and training jobs through the client and the commands, against the real service."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from model_service.client import Conflict, InvalidArgument, ModelServiceClient, NotFound

from .cli.test_cli import result, run


def test_a_models_origin_is_told_and_found_again(client: ModelServiceClient, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    source = tmp_path / "digits.npz"
    source.write_bytes(content)
    dataset = client.register_dataset("digits", purpose="calibration", schema={"inputs": []}, num_samples=3)
    stored = client.upload_dataset("datasets:/digits/latest", source)
    assert stored.checksum == f"sha256:{sha256(content).hexdigest()}"
    assert client.download_dataset(dataset.id, tmp_path / "back.npz").read_bytes() == content
    assert client.get_dataset(dataset.id).schema == {"inputs": []}

    source.write_bytes(b"more")
    client.upload_dataset_file(dataset.id, source, path="extra/é.bin")
    files = {file.path: file.size_bytes for file in client.list_dataset_files(dataset.id)}
    assert files == {"digits.npz": len(content), "extra/é.bin": 4}
    got = client.download_dataset(dataset.id, tmp_path / "more", path="extra/é.bin")
    assert got.read_bytes() == b"more"
    client.delete_dataset_file(dataset.id, "extra/é.bin")
    with pytest.raises(InvalidArgument):
        client.upload_dataset_file(dataset.id, source, path="../up")
    assert client.update_dataset(dataset.id, tags=["small"]).tags == ("small",)

    used = [{"dataset_id": "datasets:/digits/v1.0", "role": "calibration"}]
    job = client.create_training_job("run", datasets=used, code={"commit": "abc"})
    assert job.datasets == ({"dataset_id": dataset.id, "role": "calibration"},)
    job = client.update_training_job(job.id, status="running")
    assert (job.status, job.finished_at) == ("running", None)
    with pytest.raises(Conflict) as caught:
        client.update_training_job(job.id, status="pending")
    assert caught.value.details["allowed"] == ["cancelled", "completed", "failed"]
    model_id = client.register_model({"name": "net", "algorithm": "cnn", "training_job_id": job.id})
    assert client.get_model(model_id).training_job_id == job.id

    usage = client.dataset_usage(dataset.id)
    assert [model["id"] for model in usage["models"]] == [model_id]
    assert client.list_training_jobs(dataset_id=dataset.id, status="running").total == 1
    assert client.list_datasets(purpose="test").total == 0
    with pytest.raises(Conflict):
        client.delete_dataset(dataset.id)
    with pytest.raises(Conflict):
        client.delete_training_job(job.id)
    with pytest.raises(NotFound):
        client.get_training_job("8f14e45f-ceea-467f-9f1b-2d3a4b5c6d7e")


def test_the_commands_do_the_same(service_url: str, tmp_path: Path) -> None:
    source, back = tmp_path / "digits.npz", tmp_path / "back.npz"
    source.write_bytes(os.urandom(1000))
    dataset = result(
        *("datasets", "register", "digits", "--purpose", "training", "--format", "npz"),
        *("--license", "CC0", "--num-samples", "7", "--file", str(source)),
        url=service_url,
    )
    assert (dataset["license"], dataset["num_samples"], dataset["format"]) == ("CC0", 7, "npz")
    result("datasets", "download", "datasets:/digits/latest", str(back), url=service_url)
    assert back.read_bytes() == source.read_bytes()
    result("datasets", "upload", dataset["id"], str(source), "--path", "a/b.npz", url=service_url)
    files = result("datasets", "files", dataset["id"], url=service_url)["files"]
    assert {file["path"] for file in files} == {"digits.npz", "a/b.npz"}
    changed = result("datasets", "update", dataset["id"], "--tag", "x", url=service_url)
    assert changed["tags"] == ["x"]
    assert len(result("datasets", "list", "--purpose", "training", url=service_url)["datasets"]) == 1

    job = result(
        *("training", "create", "run", "--dataset", "test=datasets:/digits/latest"),
        *("--dataset", dataset["id"], "--config", '{"epochs": 3}', "--commit", "abc"),
        url=service_url,
    )
    assert [used["role"] for used in job["datasets"]] == ["test", "training"]
    assert result("training", "get", job["id"], url=service_url)["config"] == {"epochs": 3}
    result("training", "update", job["id"], "--status", "running", url=service_url)
    done = result(
        *("training", "update", job["id"], "--status", "completed", "--metrics", '{"accuracy": 1}'),
        url=service_url,
    )
    assert (done["metrics"], done["duration_s"] >= 0) == ({"accuracy": 1}, True)
    model = result(
        *("models", "register", "net", "cnn", "--training-job-id", job["id"], "--dataset", dataset["id"]),
        url=service_url,
    )
    assert (model["training_job_id"], model["dataset_ids"]) == (job["id"], [dataset["id"]])
    listed = result("training", "list", "--dataset-id", dataset["id"], url=service_url)
    assert [each["id"] for each in listed["training_jobs"]] == [job["id"]]

    shown = run("datasets", "usage", dataset["id"], url=service_url)
    assert (job["id"] in shown.stdout, model["id"] in shown.stdout) == (True, True)
    for command in (("training", "get", job["id"]), ("datasets", "get", dataset["id"])):
        assert run(*command, url=service_url).returncode == 0
    refused = run("datasets", "delete", dataset["id"], url=service_url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: conflict: ")
    wrong = run("training", "create", "run", "--dataset", "fun=x", url=service_url)
    assert wrong.returncode == 2
