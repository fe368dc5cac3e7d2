"""Exports: of training jobs and of networks in this process, in each format."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from model_service.model_deployment_service import (
    ModelExporter,
    ModelExportError,
    ModelExportMetadata,
    ModelValidator,
    Session,
)
from model_service.states import TrainingStatus
from tests.model_deployment_service.conftest import Exported, new_autoencoder

if TYPE_CHECKING:
    import torch

FORMATS = ["pytorch", "onnx", "pickle"]
INFO = {"name": "drawings", "training_metrics": {"mse": 0.03}}


def path_of(exporter: ModelExporter, metadata: ModelExportMetadata) -> Path:
    entries = [
        e
        for e in exporter.list_exported_models()
        if e["export_timestamp"] == metadata.to_dict()["export_timestamp"]
    ]
    return Path(entries[0]["model_export_path"])


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_network_is_exported_with_its_real_description(
    exporter: ModelExporter,
    validator: ModelValidator,
    autoencoder: torch.nn.Module,
    export_format: str,
    export_dir: Path,
) -> None:
    before = datetime.now(UTC)
    metadata = exporter.export_model_direct(autoencoder, INFO, 3.0, 4.5, export_format)
    assert before <= metadata.export_timestamp <= datetime.now(UTC)
    assert metadata.training_job_id == 0
    assert (metadata.model_type, metadata.model_version) == ("Autoencoder", "1.0")
    assert metadata.parameter_count == sum(one.numel() for one in autoencoder.parameters())
    assert (metadata.input_dimension, metadata.output_dimension) == (64, 64)
    assert (metadata.age_group_min, metadata.age_group_max) == (3.0, 4.5)
    assert metadata.training_metrics == {"mse": 0.03}
    assert metadata.export_format == export_format

    path = path_of(exporter, metadata)
    assert path.is_relative_to(export_dir.resolve())
    files = sorted(each for each in path.parent.iterdir() if each.name in FILES[export_format])
    assert [each.name for each in files] == FILES[export_format]
    assert metadata.file_size_bytes == sum(each.stat().st_size for each in files)
    digests = [(hashlib.sha256(each.read_bytes()).hexdigest(), each.name) for each in files]
    lines = "".join(f"{digest}  {name}\n" for digest, name in digests)
    whole = digests[0][0] if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    assert metadata.checksum == whole

    result = validator.validate_exported_model(metadata)
    assert result["is_valid"] is True
    assert result["checks"] == ["description", "checksum", "compatibility", "package", "golden_inputs"]
    assert result["rows"] > 0
    (output,) = result["outputs"].values()
    assert output["max_abs"] is not None
    assert output["max_abs"] < 1e-4
    json.dumps(result)


FILES = {
    "pytorch": ["architecture.pt2", "model.safetensors"],
    "onnx": ["model.onnx"],
    "pickle": ["model.pkl"],
}


def test_the_artefacts_compute_what_the_network_computes(
    exported: list[Exported],
    autoencoder: torch.nn.Module,
    digits: tuple[torch.Tensor, torch.Tensor],
    tmp_path: Path,
) -> None:
    import onnxruntime
    import torch

    with torch.no_grad():
        expected = autoencoder.eval()(digits[0][:50]).numpy()
    session = onnxruntime.InferenceSession(exported[0].path)
    (found,) = session.run(None, {session.get_inputs()[0].name: digits[0][:50].numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5)

    stored = pickle.loads(Path(exported[2].path).read_bytes())
    assert set(stored) == set(FILES["pytorch"])
    for name, content in stored.items():
        (tmp_path / name).write_bytes(content)
    from exporters.runners import open_artefact

    runner = open_artefact("pytorch", tmp_path / "model.safetensors")
    (found,) = runner.predict({runner.inputs[0].name: digits[0][:50].numpy()}).values()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_keeps_its_mode_and_its_weights(
    exporter: ModelExporter, classifier: torch.nn.Module
) -> None:
    import torch

    classifier.train()
    classifier[1].eval()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    metadata = exporter.export_model_direct(classifier, {"name": "digits"}, 5, 6, "onnx")
    assert (metadata.model_type, metadata.input_dimension, metadata.output_dimension) == (
        "Sequential",
        64,
        10,
    )
    assert metadata.parameter_count == sum(one.numel() for one in classifier.parameters())
    assert [layer.training for layer in classifier] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_the_architecture_hash_is_of_layers_and_shapes_alone(
    exporter: ModelExporter, exported: list[Exported], training_job: Callable[..., str], db: Session
) -> None:
    trained, other_weights, pickled = (export.metadata.architecture_hash for export in exported)
    assert len(trained) == 64
    assert other_weights == pickled == trained
    smaller = exporter.export_model_direct(new_autoencoder(hidden=8), INFO, 3, 4, "onnx")
    assert smaller.architecture_hash != trained
    of_job = exporter.export_model_from_training_job(training_job(), 3, 4, "onnx", db)  # type: ignore[arg-type]
    assert of_job.architecture_hash == trained


def test_a_training_job_is_exported_by_its_uuid_and_then_by_its_integer(
    exporter: ModelExporter, validator: ModelValidator, training_job: Callable[..., str], db: Session
) -> None:
    uuid = training_job()
    first = exporter.export_model_from_training_job(uuid, 3.0, 4.0, "onnx", db)  # type: ignore[arg-type]
    assert (first.model_type, first.model_version) == ("autoencoder", "v1.0")
    assert first.training_metrics == {"mse": 0.02}
    assert first.training_job_id > 0
    assert db["models"].find_one({"training_job_id": uuid}, {"_id": 1}) == {"_id": object_id(first.model_id)}
    second = exporter.export_model_from_training_job(first.training_job_id, 4.0, 5.0, "pytorch", db)
    assert (second.training_job_id, second.model_id) == (first.training_job_id, first.model_id)
    assert ModelExporter(db=db).list_exported_models() == []  # another folder
    assert validator.validate_exported_model(second)["is_valid"]


def object_id(text: str) -> Any:
    from bson import ObjectId

    return ObjectId(text)


def test_the_database_of_the_constructor_is_used_if_a_call_names_none(
    export_dir: Path, training_job: Callable[..., str], db: Session
) -> None:
    exporter = ModelExporter(export_dir=export_dir, db=db)
    uuid: Any = training_job()
    none: Any = None
    assert exporter.export_model_from_training_job(uuid, 3, 4, "onnx", none).training_job_id == 1
    with pytest.raises(ModelExportError, match="MONGODB_URL is not set"):
        ModelExporter(export_dir).export_model_from_training_job(uuid, 3, 4, "onnx", none)


def test_a_job_that_cannot_be_exported_is_refused(
    exporter: ModelExporter, training_job: Callable[..., str], db: Session
) -> None:
    uuid: Any = training_job(TrainingStatus.RUNNING)
    with pytest.raises(ModelExportError, match="is running: only a completed one"):
        exporter.export_model_from_training_job(uuid, 3, 4, "onnx", db)
    with pytest.raises(ModelExportError, match="No training job has the integer id 99"):
        exporter.export_model_from_training_job(99, 3, 4, "onnx", db)
    missing: Any = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(ModelExportError, match="00000000"):
        exporter.export_model_from_training_job(missing, 3, 4, "onnx", db)


def test_an_untrusted_file_is_not_loaded_in_this_process(
    exporter: ModelExporter, training_job: Callable[..., str], db: Session, tmp_path: Path
) -> None:
    class RunsCode:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    uuid: Any = training_job(content=pickle.dumps(RunsCode()))
    with pytest.raises(ModelExportError, match=r"would run code|kind sklearn"):
        exporter.export_model_from_training_job(uuid, 3, 4, "pickle", db)
    assert not (tmp_path / "ran").exists()
    assert exporter.list_exported_models() == []


def test_an_estimator_has_no_architecture(
    exporter: ModelExporter, training_job: Callable[..., str], db: Session
) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    uuid: Any = training_job(content=skops.io.dumps(estimator))
    with pytest.raises(ModelExportError, match="kind sklearn, but only networks of torch"):
        exporter.export_model_from_training_job(uuid, 3, 4, "onnx", db)


@pytest.mark.parametrize(
    ("low", "high", "export_format", "info", "message"),
    [
        (4, 3, "onnx", {}, "minimum below the maximum"),
        (-1, 3, "onnx", {}, "minimum below the maximum"),
        (3, float("inf"), "onnx", {}, "minimum below the maximum"),
        (3, 4, "tflite", {}, "one of pytorch, onnx, pickle"),
        (3, 4, "onnx", {"name": "../x"}, "cannot be the name"),
        (3, 4, "onnx", {"training_metrics": {"mse": float("nan")}}, "without NaN"),
        (3, 4, "onnx", {"input_shape": [3]}, "torch.export cannot export Autoencoder"),
        (3, 4, "onnx", {"example_inputs": [1.0]}, "must be a tensor"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_allowed(
    exporter: ModelExporter,
    autoencoder: torch.nn.Module,
    low: float,
    high: float,
    export_format: str,
    info: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ModelExportError, match=message):
        exporter.export_model_direct(autoencoder, info, low, high, export_format)
    assert exporter.list_exported_models() == []


def test_the_shape_of_a_network_that_starts_with_no_linear_layer_is_asked_for(
    exporter: ModelExporter,
) -> None:
    from torch import nn

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 5))
    with pytest.raises(ModelExportError, match="set 'input_shape'"):
        exporter.export_model_direct(network, {}, 3, 4, "onnx")
    metadata = exporter.export_model_direct(network, {"input_shape": [1, 8, 8]}, 3, 4, "onnx")
    assert (metadata.input_dimension, metadata.output_dimension) == (64, 5)


def test_metadata_survive_json(exporter: ModelExporter, autoencoder: torch.nn.Module) -> None:
    metrics = {"mse": np.float32(0.5), "epochs": [1, 2]}
    metadata = exporter.export_model_direct(autoencoder, {"training_metrics": metrics}, 3, 4, "onnx")
    assert metadata.training_metrics == {"mse": 0.5, "epochs": [1, 2]}
    text = json.dumps(metadata.to_dict())
    assert ModelExportMetadata.from_dict(json.loads(text)) == metadata
    moment = json.loads(text)["export_timestamp"]
    assert datetime.fromisoformat(moment) == metadata.export_timestamp
    assert replace(metadata, model_id="x").to_dict()["model_id"] == "x"
    (entry,) = exporter.list_exported_models()
    assert entry["problem"] is None
    assert ModelExportMetadata.from_dict(entry) == metadata


@pytest.mark.parametrize("rows", [1, 2])
def test_example_inputs_are_moved_to_the_cpu(exporter: ModelExporter, rows: int) -> None:
    """With tensors of the device "meta", which have no values to move, the move itself fails."""
    import torch

    info: Any = {"example_inputs": torch.zeros(rows, 4, device="meta")}
    with pytest.raises(ModelExportError, match="Cannot copy out of meta tensor"):
        exporter.export_model_direct(torch.nn.Linear(4, 2), info, 3, 4, "onnx")
