"""Checkpoints of every framework through the running service, as their libraries save them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters import package, runners
from model_service.client import ModelServiceClient
from tests.factories import new_model

FORMATS = ("onnx", "openvino", "torchscript")


def timm_weights(name: str, folder: Path) -> Path:
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model(name, num_classes=7).state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def a_timm_cnn(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    return [timm_weights("resnet10t", folder)], {"architecture": "timm:resnet10t"}


def a_timm_vit(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    return [timm_weights("test_vit", folder)], {"architecture": "timm:test_vit"}


def an_ultralytics_detector(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    from tests.exporters.sources.test_ultralytics import network, save

    return [save(network("detect"), folder / "best.pt")], {}


def a_hugging_face_encoder(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).eval().save_pretrained(folder)
    return sorted(folder.iterdir(), key=lambda path: path.name != "config.json"), {}


@pytest.mark.large
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("framework", "make"),
    [
        ("timm", a_timm_cnn),
        ("timm", a_timm_vit),
        ("ultralytics", an_ultralytics_detector),
        ("huggingface", a_hugging_face_encoder),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_it_is_exported_verified_and_runs(
    framework: str,
    make: Callable[[Path], tuple[list[Path], dict[str, Any]]],
    client: ModelServiceClient,
    tmp_path: Path,
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    files, config = make(checkpoint)
    model_id = client.register_model(new_model(name=make.__name__, framework=framework))
    for number, file in enumerate(files):
        client.upload_file(model_id, file, primary=number == 0)
    jobs = {name: client.create_export(model_id, name, export_config=config) for name in FORMATS}
    for name, job in jobs.items():
        done = client.wait_for_export(job)
        assert done.raw["fidelity"]["verdict"] == "verified", name
        archive = client.download_export(done.id, tmp_path / f"{name}.zip")
        folder = tmp_path / name
        package.unpack(archive, folder)
        package.verify(folder)
        metadata = json.loads((folder / "metadata.json").read_bytes())
        assert metadata["performance"]["hardware"] == done.raw["performance"]["hardware"]
        with np.load(folder / "golden.npz") as golden:
            runner = runners.load(folder)
            answer = runner.predict({spec.name: golden[f"input:{spec.name}"] for spec in runner.inputs})
            for output, values in answer.items():
                np.testing.assert_allclose(values, golden[f"output:{output}"], rtol=1e-2, atol=1e-3)
