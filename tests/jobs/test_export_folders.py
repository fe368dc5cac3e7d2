"""Models of several files, through a worker and its converter: a Hugging Face folder; ONNX and its data."""

from pathlib import Path

import numpy as np

from model_service.jobs.context import Context
from model_service.jobs.export import export
from model_service.services import Services
from model_service.services.files.files import NewFile
from tests.factories import model_fields


def exported(services: Services, folder: Path, primary: str, **config: object) -> str:
    """The job that was run for a version with the folder's files."""
    model = services.models.register(model_fields())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        new = NewFile.at(name, primary=name == primary)
        services.files.store(model, iter([path.read_bytes()]), new, sha256=None)
    job = services.exports.create(
        model_id=str(model["_id"]),
        training_job_id=None,
        export_format="onnx",
        export_config=config,
        optimization_config=None,
        validation_config=None,
        version_tag=None,
    )
    export(job["_id"])
    return str(job["_id"])


def test_a_hugging_face_folder_is_exported_whole(
    context: Context, services: Services, tmp_path: Path
) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=64, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertForSequenceClassification(config).eval().save_pretrained(tmp_path / "model")
    job = services.exports.get(exported(services, tmp_path / "model", "config.json"))
    assert (job["status"], job.get("error_message")) == ("completed", None), job["log"]
    assert job["fidelity"]["verdict"] == "verified"
    assert {spec["name"] for spec in job["inputs"]} == {"input_ids", "attention_mask"}
    assert job["optimization_stats"]["original_size_mb"] > 0


def test_onnx_is_exported_with_the_data_beside_it(
    context: Context, services: Services, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        model, folder / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    assert sorted(path.name for path in folder.iterdir()) == ["net.onnx", "net.onnx.data"]
    job = services.exports.get(exported(services, folder, "net.onnx"))
    assert (job["status"], job.get("error_message")) == ("completed", None), job["log"]
    assert job["fidelity"]["verdict"] == "verified"
