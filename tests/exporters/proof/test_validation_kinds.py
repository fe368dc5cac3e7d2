"""Validation with other kinds of datasets: tables for an estimator of named columns, boxes of a detector."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars
import pytest
from PIL import Image

from exporters import metrics, runners
from exporters.base import Arrays, TensorSpec
from exporters.convert import run
from exporters.datasets import DatasetFile, open_dataset
from exporters.errors import InvalidDataset
from exporters.metrics.decoding import ModelFacts, decoder
from exporters.processing.declared import complete_postprocessing, complete_preprocessing
from exporters.proof import data, validation
from exporters.request import ExportRequest, Validation
from tests.exporters import tables


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_an_estimator_gets_the_columns_that_it_was_fitted_on(tmp_path: Path, format_name: str) -> None:
    model = tables.save(tmp_path / "model.skops")
    frame = tables.frame()
    wanted = tables.fitted().predict(frame)
    table = frame.with_columns(polars.Series("bought", wanted)).select("bought", *reversed(frame.columns))
    path = tmp_path / "table"
    {"csv": table.write_csv, "parquet": table.write_parquet}[format_name](path)

    asked = Validation(DatasetFile(path, format_name, {"label": "bought"}), ["accuracy", "f1"])
    result = run(ExportRequest(model, tmp_path / "out", "onnx", validation=asked))
    assert result.validation is not None
    assert (result.validation["original_accuracy"], result.validation["accuracy"]) == (1, 1)

    # The same by the package alone
    metadata = json.loads((result.package_dir / "metadata.json").read_text())
    dataset, facts = data.for_package(asked.dataset, result.package_dir, metadata)
    found = validation.evaluate(
        runners.load(result.package_dir).predict,
        dataset,
        decoder(dataset.task, facts),
        ["accuracy"],
        samples=50,
    )
    assert found["metrics"]["accuracy"] == {"value": 1, "interval": [1, 1]}
    assert found["samples"] == 50
    assert np.sum(found["confusion"]) == 50


def test_a_category_that_the_estimator_does_not_know_is_refused(tmp_path: Path) -> None:
    model = tables.save(tmp_path / "model.skops")
    frame = tables.frame(20).with_columns(size=polars.lit("XXL"), bought=polars.Series([0, 1] * 10))
    frame.write_csv(tmp_path / "table")
    asked = Validation(DatasetFile(tmp_path / "table", "csv", {"label": "bought"}))
    with pytest.raises(InvalidDataset, match="XXL"):
        run(ExportRequest(model, tmp_path / "out", "onnx", validation=asked))


SIZE = (64, 48)
BOXES = 3
PREPROCESSING = complete_preprocessing({"resize": {"method": "resize", "size": list(SIZE)}})
POSTPROCESSING = complete_postprocessing({"nms": {}, "raw_output": {"format": "xyxy_conf_class"}})


def boxes_of(number: int) -> np.ndarray[Any, Any]:
    """The boxes of the picture with this grey value."""
    random = np.random.default_rng(number)
    corners = random.uniform(0, 20, (BOXES, 2)) + np.arange(BOXES)[:, None] * 5
    return np.concatenate([corners, corners + random.uniform(8, 20, (BOXES, 2))], axis=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve grey pictures with three objects each, annotated as COCO does."""
    annotations = [
        {
            "id": BOXES * number + place,
            "image_id": number,
            "category_id": place,
            "bbox": [*box[:2], *(box[2:] - box[:2])],
        }
        for number in range(12)
        for place, box in enumerate(boxes_of(number).tolist())
        for box in [np.array(box)]
    ]
    document = {
        "images": [{"id": number, "file_name": f"{number:02}.png"} for number in range(12)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(BOXES)],
        "annotations": annotations,
    }
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotations.json", json.dumps(document))
        for number in range(12):
            data = io.BytesIO()
            Image.new("RGB", SIZE, (number, number, number)).save(data, "PNG")
            archive.writestr(f"{number:02}.png", data.getvalue())
    return path


def detector(shift: float) -> Any:
    """A network that knows the pictures by their grey value, and misplaces boxes by ``shift`` pixels."""

    def predict(inputs: Arrays) -> Arrays:
        found = []
        for picture in inputs["images"]:
            boxes = boxes_of(round(float(picture.max()))) + shift
            scores = np.linspace(0.9, 0.5, BOXES)[:, None]
            found.append(np.concatenate([boxes, scores, np.arange(BOXES)[:, None]], axis=1))
        return {"output": np.stack(found).astype(np.float32)}

    return predict


def test_the_boxes_of_a_detector_are_judged_by_their_average_precision(pictures: Path) -> None:
    spec = TensorSpec("images", "float32", ("batch", 3, SIZE[1], SIZE[0]))
    dataset = open_dataset(DatasetFile(pictures, "coco"), [spec], preprocessing=PREPROCESSING)
    facts = ModelFacts(postprocessing=POSTPROCESSING)
    results = validation.validate(
        detector(0),
        detector(1),
        dataset,
        decoder(dataset.task, facts),
        metrics.names_of("detection"),
        fail_threshold={"mAP50-95": 0.05},
        seed=1,
    )
    document = results.document
    assert document["metrics"]["mAP50-95"]["original"] == pytest.approx(1)
    assert 0.2 < document["metrics"]["mAP50-95"]["artefact"] < 0.9
    low, high = document["metrics"]["mAP50-95"]["interval"]
    assert 0 < low < document["metrics"]["mAP50-95"]["drop"] < high < 1
    assert document["passed"] is False
    assert document["changed"][0]["original"] == {"boxes": 3, "classes": [0, 1, 2]}
    assert document["resamples"] == 1000


def test_a_detector_needs_a_declaration_of_its_boxes(pictures: Path) -> None:
    with pytest.raises(InvalidDataset, match="declares no postprocessing with nms"):
        decoder("detection", ModelFacts())


@pytest.mark.parametrize("first", [0, 1])
def test_the_classes_of_an_estimator_need_not_count_from_0(tmp_path: Path, first: int) -> None:
    from sklearn.svm import LinearSVC

    x = np.random.default_rng(0).standard_normal((90, 4))
    y = x[:, :3].argmax(axis=1) + first
    joblib.dump(LinearSVC().fit(x, y), tmp_path / "model.joblib")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    asked = Validation(DatasetFile(tmp_path / "data.npz", "npz"))
    result = run(ExportRequest(tmp_path / "model.joblib", tmp_path / "out", "onnx", validation=asked))
    assert result.validation is not None
    assert result.validation["accuracy"] == result.validation["original_accuracy"] > 0.9
    assert result.validation["top5"] == 1

    metadata = json.loads((result.package_dir / "metadata.json").read_text())
    dataset, facts = data.for_package(asked.dataset, result.package_dir, metadata)
    predict = runners.load(result.package_dir).predict
    found = validation.evaluate(predict, dataset, decoder(dataset.task, facts))
    assert found["metrics"]["accuracy"]["value"] == result.validation["accuracy"]
    assert found["metrics"]["top5"]["value"] == 1


def test_an_estimator_of_texts_gets_the_column_of_texts(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [f"{word} number {number}" for number in range(20) for word in ("good", "bad")]
    labels = ["yes", "no"] * 20
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, labels)
    joblib.dump(model, tmp_path / "model.joblib")
    rows = [{"review": text, "target": label} for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = DatasetFile(tmp_path / "data.jsonl", "jsonl", {"inputs": {"text": "review"}})
    result = run(
        ExportRequest(tmp_path / "model.joblib", tmp_path / "out", "onnx", validation=Validation(file))
    )
    assert result.validation is not None
    assert (result.validation["accuracy"], result.validation["original_accuracy"]) == (1, 1)
