"""Train a small network on scans of digits, and register it with its accuracy and its file.

    model-service up                          # in another terminal
    python examples/train_and_register.py

Needs torch and scikit-learn. MODEL_SERVICE_URL and MODEL_SERVICE_API_KEY name another service.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from model_service.client import ModelServiceClient

digits = load_digits()
scans = (digits.images / 16).astype("float32")[:, None]  # float32[1797, 1, 8, 8]
parts = train_test_split(scans, digits.target, random_state=0)
x, x_test, y, y_test = (torch.from_numpy(part) for part in parts)

torch.set_num_threads(1)  # more threads only cost time for so small a network
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10))
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
for _ in range(10):
    for rows in torch.randperm(len(y)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
accuracy = (network.eval()(x_test).argmax(1) == y_test).float().mean().item()

url = os.environ.get("MODEL_SERVICE_URL", "http://127.0.0.1:8084")
with (
    TemporaryDirectory() as folder,
    ModelServiceClient(url, os.environ.get("MODEL_SERVICE_API_KEY")) as client,
):
    # The batch is dynamic; traced with a batch of 2, because with 1 it would become a constant.
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, Path(folder) / "digits.pt2")
    model_id = client.register_model(
        "examples/digits", algorithm="convnet", framework="pytorch", metrics={"accuracy": accuracy}
    )
    client.upload_model(model_id, Path(folder) / "digits.pt2")
    client.set_alias(model_id, "candidate")
    model = client.get_model(model_id)
    print(f"{model.name} {model.version}: accuracy {accuracy:.1%}, {model.size_bytes:,} bytes")
