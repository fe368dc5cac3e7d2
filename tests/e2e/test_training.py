"""Quantization-aware training over HTTP, with a worker that is killed while it trains."""

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.export import Dim

from model_service.client import ExportJob, ModelServiceClient
from tests.e2e.conftest import Stack, wait_for

EPOCHS = 5


def network(folder: Path) -> tuple[Path, Path]:
    """A network for digits, and so many of them that an epoch takes a second."""
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step()
    model, data = folder / "digits.pt2", folder / "digits.npz"
    program = torch.export.export(net.eval(), (torch.zeros(2, 64),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(program, model)
    np.savez(data, x=np.tile(x, (4, 1)), y=np.tile(labels, 4))
    return model, data


def test_another_worker_continues_a_training_to_the_same_weights(
    stack: Stack, client: ModelServiceClient, tmp_path: Path
) -> None:
    model, data = network(tmp_path)
    model_id = client.register_model({"name": "trained/digits", "algorithm": "mlp", "framework": "pytorch"})
    client.upload_model(model_id, model)
    dataset = client.register_dataset("trained/digits", format="npz", purpose="training")
    client.upload_dataset(dataset.id, data)
    client.wait_for_dataset(dataset.id, timeout_s=120)
    fields = {"calibration_dataset_id": dataset.id, "training_dataset_id": dataset.id}
    qat = {"method": "qat", "epochs": EPOCHS, "batch_size": 8, **fields}

    def export() -> ExportJob:
        return client.create_export(model_id, "onnx", optimization_config={"quantization": qat}, reuse=False)

    undisturbed = client.wait_for_export(export(), timeout_s=240)
    job = export()
    wait_for(lambda: "Epoch 2 of" in client.get_export(job.id)["progress_message"], "the second epoch")
    stack.kill("worker")
    done = client.wait_for_export(job, timeout_s=240)
    epochs = [int(number) for number in re.findall(r"Epoch (\d+) of", "\n".join(done["log"]))]
    assert epochs.count(1) == 1, "the first epoch is not run again"
    assert epochs[-1] == EPOCHS
    assert done["attempts"] == 2
    assert (
        done["optimization_stats"]["training"]["losses"]
        == undisturbed["optimization_stats"]["training"]["losses"]
    )
    assert artefact(client, done.id, tmp_path) == artefact(client, undisturbed.id, tmp_path)
    assert done["optimization_stats"]["judgement"]["passed"]


def artefact(client: ModelServiceClient, job_id: str, folder: Path) -> bytes:
    package = client.download_export(job_id, folder / f"{job_id}.zip")
    with zipfile.ZipFile(package) as archive:
        return archive.read("model.onnx")
