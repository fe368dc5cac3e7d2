"""Datasets are inspected, models and exports are evaluated on them, and exports are validated, over HTTP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.export import Dim

from model_service.client import (
    Conflict,
    EvaluationFailed,
    ExportFailed,
    InvalidRequest,
    ModelServiceClient,
)
from tests.e2e.conftest import Stack, wait_for
from tests.jobs.test_export_validation import near_classes


@pytest.fixture
def digits(tmp_path: Path) -> tuple[Path, Path, float]:
    """A network trained for a moment, 450 digits that it has not seen, and its accuracy on them."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    seen, unseen, known, asked = train_test_split(images, labels, test_size=450, random_state=0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(seen)), torch.from_numpy(known)).backward()
        optimiser.step()
    network.eval()
    model, data = tmp_path / "digits.pt2", tmp_path / "digits.npz"
    program = torch.export.export(network, (torch.zeros(2, 64),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(program, model)
    np.savez(data, x=unseen, y=asked)
    with torch.no_grad():
        predicted = network(torch.from_numpy(unseen)).argmax(1).numpy()
    return model, data, float((predicted == asked).mean())


def registered(client: ModelServiceClient, name: str, file: Path) -> str:
    model_id = client.register_model({"name": name, "algorithm": "mlp", "framework": "pytorch"})
    client.upload_model(model_id, file)
    return str(model_id)


def with_data(client: ModelServiceClient, name: str, file: Path) -> str:
    dataset = client.register_dataset(name, format="npz", purpose="test")
    client.upload_dataset(dataset.id, file)
    return client.wait_for_dataset(dataset.id, timeout_s=120).id


def test_digits_are_evaluated_and_exports_validated(
    stack: Stack, client: ModelServiceClient, digits: tuple[Path, Path, float], tmp_path: Path
) -> None:
    model_file, data_file, accuracy = digits
    model_id = registered(client, "evaluated/digits", model_file)
    dataset_id = with_data(client, "evaluated/digits", data_file)
    summary = client.get_dataset(dataset_id).summary
    assert summary is not None
    assert (summary["status"], summary["num_samples"], summary["task"]) == ("ready", 450, "classification")
    assert sum(summary["class_counts"].values()) == 450

    done = client.wait_for_evaluation(client.create_evaluation(dataset_id, model_id=model_id))
    assert done.results is not None
    assert done.results["accuracy"]["value"] == pytest.approx(accuracy)
    low, high = done.results["accuracy"]["interval"]
    assert low <= accuracy <= high
    assert done.evaluated_samples == 450

    validation = {"dataset_id": dataset_id, "fail_threshold": {"accuracy_drop_max": 0.02}}
    job = client.wait_for_export(client.create_export(model_id, "onnx", validation_config=validation))
    metrics = job.raw["validation_metrics"]
    assert metrics["passed"] is True
    assert metrics["accuracy"] == pytest.approx(accuracy)

    of_export = client.create_evaluation(dataset_id, export_job_id=job.id, metrics=["accuracy"], samples=100)
    measured = client.wait_for_evaluation(of_export)
    assert measured.results is not None
    assert set(measured.results) == {"accuracy"}
    assert (measured.evaluated_samples, measured.export_job_id) == (100, job.id)

    # A dataset that does not fit is refused, now that an export says what the model takes
    narrow = tmp_path / "narrow.npz"
    np.savez(narrow, x=np.zeros((10, 63), np.float32), y=np.arange(10) % 2)
    narrow_id = with_data(client, "evaluated/narrow", narrow)
    with pytest.raises(InvalidRequest, match=r"\[63\]"):
        client.create_evaluation(narrow_id, model_id=model_id)
    with pytest.raises(InvalidRequest, match="There is no dataset"):
        client.create_export(model_id, "onnx", validation_config={"dataset_id": "f" * 24})


def test_a_bad_export_is_stopped_by_its_threshold(
    stack: Stack, client: ModelServiceClient, tmp_path: Path
) -> None:
    """In float16 its outputs are within the tolerance, and each row is of one class."""
    program, rows = near_classes()
    model_file, data_file = tmp_path / "near.pt2", tmp_path / "signs.npz"
    model_file.write_bytes(program)
    data_file.write_bytes(rows)
    model_id = registered(client, "evaluated/near", model_file)
    validation = {
        "dataset_id": with_data(client, "evaluated/signs", data_file),
        "fail_threshold": {"accuracy_drop_max": 0.02},
    }
    job = client.create_export(
        model_id, "openvino", export_config={"precision": "FP16"}, validation_config=validation
    )
    with pytest.raises(ExportFailed) as failed:
        client.wait_for_export(job)
    assert failed.value.code == "validation_failed"
    stored = client.get_export(job.id).raw["validation_metrics"]
    assert (stored["passed"], stored["original_accuracy"]) == (False, 1)
    assert client.download_export(job.id, tmp_path / "kept.zip").stat().st_size > 0


def test_data_that_cannot_be_loaded_says_why(
    stack: Stack, client: ModelServiceClient, digits: tuple[Path, Path, float], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no arrays")
    dataset_id = with_data(client, "evaluated/broken", broken)
    summary = client.get_dataset(dataset_id).summary
    assert summary is not None
    assert summary["status"] == "failed"
    assert summary["error"]
    model_id = registered(client, "evaluated/other", digits[0])
    with pytest.raises(InvalidRequest):
        client.create_evaluation(dataset_id, model_id=model_id)

    # Without an export, the worker finds that the arrays do not fit
    narrow = tmp_path / "narrow.npz"
    np.savez(narrow, x=np.zeros((10, 63), np.float32), y=np.arange(10) % 2)
    found = client.create_evaluation(with_data(client, "evaluated/narrow", narrow), model_id=model_id)
    with pytest.raises(EvaluationFailed) as failed:
        client.wait_for_evaluation(found)
    assert failed.value.code == "invalid_dataset"
    with pytest.raises(Conflict):
        client.cancel_evaluation(found.id)


def test_an_evaluation_survives_its_worker(
    stack: Stack, client: ModelServiceClient, digits: tuple[Path, Path, float]
) -> None:
    model_id = registered(client, "evaluated/survives", digits[0])
    dataset_id = with_data(client, "evaluated/survives", digits[1])
    found = client.create_evaluation(dataset_id, model_id=model_id)
    wait_for(lambda: client.get_evaluation(found.id).status == "running", "the evaluation to run")
    stack.kill("worker")
    assert client.wait_for_evaluation(found, timeout_s=180).status == "completed"
