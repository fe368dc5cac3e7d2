"""The metrics beside scikit-learn and pycocotools, and their bootstrap samples beside real copies of rows."""

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn import metrics as sklearn

from exporters import metrics
from exporters.datasets.reader import Truth
from exporters.errors import InvalidDataset, UnsupportedOption
from exporters.metrics.detection import Found

from ..memory import peak_bytes

CLASSES = 7


def classes_and_scores(rows: int = 400, seed: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES - 1, rows)  # one class never occurs
    scores = random.standard_normal((rows, CLASSES)).astype(np.float32)
    scores[np.arange(rows), labels] += 1
    return labels, scores


def test_classification_agrees_with_scikit_learn() -> None:
    labels, scores = classes_and_scores()
    predicted = scores.argmax(axis=1)
    found = metrics.compute("classification", metrics.names_of("classification"), labels, scores)

    assert found == pytest.approx(
        {
            "accuracy": sklearn.accuracy_score(labels, predicted),
            "top5": sklearn.top_k_accuracy_score(labels, scores, k=5, labels=range(CLASSES)),
            "f1": sklearn.f1_score(labels, predicted, average="macro"),
            "precision": sklearn.precision_score(labels, predicted, average="macro"),
            "recall": sklearn.recall_score(labels, predicted, average="macro", zero_division=0),
        },
        abs=1e-12,
    )


def test_regression_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(1)
    labels = random.standard_normal((300, 3))
    predicted = labels + 0.3 * random.standard_normal((300, 3))
    found = metrics.compute("regression", ["mse", "mae", "r2"], labels, predicted)

    assert found == pytest.approx(
        {
            "mse": sklearn.mean_squared_error(labels, predicted),
            "mae": sklearn.mean_absolute_error(labels, predicted),
            "r2": sklearn.r2_score(labels, predicted),
        },
        abs=1e-12,
    )
    images, again = labels.reshape(100, 3, 3), predicted.reshape(100, 3, 3)
    assert metrics.compute("reconstruction", ["mse", "mae"], images, again) == pytest.approx(
        {"mse": found["mse"], "mae": found["mae"]}, abs=1e-12
    )


def test_the_iou_of_masks_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 4, (20, 9, 11))
    predicted = np.where(random.random(labels.shape) < 0.7, labels, random.integers(0, 4, labels.shape))
    labels[random.random(labels.shape) < 0.05] = 255  # not counted
    counted = labels != 255

    found = metrics.compute("segmentation", ["iou"], labels, predicted)
    wanted = sklearn.jaccard_score(labels[counted], predicted[counted], average="macro")
    assert found["iou"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    "task", ["classification", "regression", "reconstruction", "segmentation", "detection"]
)
def test_a_bootstrap_sample_has_the_metrics_of_its_rows(task: str) -> None:
    rows = 60
    random = np.random.default_rng(3)
    if task == "classification":
        labels, predicted = classes_and_scores(rows)
    elif task == "segmentation":
        labels, predicted = random.integers(0, 5, (2, rows, 4, 4))
    elif task == "detection":
        found, truths = boxes(rows)
        labels, predicted = np.array(truths, dtype=object), np.array(found, dtype=object)
    else:
        labels, predicted = random.standard_normal((2, rows, 3))
    names = metrics.names_of(task)
    chosen = random.integers(0, rows, rows)
    counts = np.bincount(chosen, minlength=rows)

    def given(values: npt.NDArray[Any]) -> Any:
        return list(values) if task == "detection" else values

    whole = metrics.tally(task)
    for start in range(0, rows, 7):  # it arrives in batches
        whole.add(given(predicted[start : start + 7]), given(labels[start : start + 7]))
    order = np.repeat(np.arange(rows), counts)
    copied = metrics.compute(task, names, given(labels[order]), given(predicted[order]))
    assert whole.rows == rows
    assert whole.resampled(names, counts) == pytest.approx(copied, abs=1e-12)
    assert whole.resampled(names, np.ones(rows, np.int64)) == pytest.approx(whole.values(names), abs=1e-12)


def test_wide_labels_and_many_classes_of_masks_get_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.metrics.numeric._DRAWN_NUMBERS", 100_000)
    monkeypatch.setattr("exporters.metrics.segmentation._PAIRS", 100_000)
    numbers = np.zeros((10, 40))
    masks = np.full((4, 2, 2), 99)
    for task, values, wanted in (
        ("regression", numbers, 250),
        ("regression", np.zeros((10, 4000)), 50),
        ("reconstruction", numbers, 1000),  # only the errors of rows are kept
        ("segmentation", masks, 250),
        ("segmentation", masks % 10, 1000),
    ):
        found = metrics.tally(task)
        found.add(values, values)
        assert found.resamples(1000) == wanted
        assert found.resamples(60) == min(wanted, 60)


def test_masks_are_joined_once_for_all_samples() -> None:
    masks = np.arange(200).reshape(200, 1, 1) % 150
    masks[-1] = 999
    found = metrics.tally("segmentation")
    for mask in masks:
        found.add(mask[None], mask[None])
    counts = np.ones(200, np.int64)
    assert found.resampled(["iou"], counts) == {"iou": 1}
    assert peak_bytes(lambda: found.resampled(["iou"], counts)) < 1_000_000  # joined, they are 4.8 MB


def test_class_ids_may_be_large() -> None:
    labels = np.array([0, 10_000_000, 10_000_000, 7])
    found = metrics.tally("classification")
    found.add(np.array([0, 10_000_000, 7, 7]), labels)
    counts = np.ones(4, np.int64)
    names = ["f1", "precision", "recall"]
    assert found.resampled(names, counts) == pytest.approx(found.values(names), abs=1e-12)
    found.add(np.array([8]), np.array([9]))
    assert found.resampled(names, np.ones(5, np.int64)) == pytest.approx(found.values(names), abs=1e-12)
    assert peak_bytes(lambda: found.resampled(names, np.ones(5, np.int64))) < 1_000_000  # not 80 MB


def boxes(images: int, seed: int = 0) -> tuple[list[Found], list[Truth]]:
    """Objects of five classes, crowds among them, and detections that are near, wrong or absent."""
    random = np.random.default_rng(seed)
    found, truths = [], []
    for _ in range(images):
        count = int(random.integers(0, 8))
        corners = random.uniform(0, 300, (count, 2))
        true = np.concatenate([corners, corners + random.uniform(5, 150, (count, 2))], axis=1)
        classes = random.integers(0, 5, count)
        areas = (true[:, 2:] - true[:, :2]).prod(axis=1)
        truths.append(Truth(true, classes, random.random(count) < 0.1, areas))
        seen = random.random(count) < 0.8
        near = true[seen] + random.normal(0, 5, (int(seen.sum()), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        extra = random.uniform(0, 200, (3, 2))
        detected = np.concatenate([near, np.concatenate([extra, extra + 40], axis=1)])
        of = np.concatenate(
            [np.where(random.random(len(near)) < 0.9, classes[seen], 0), random.integers(0, 5, 3)]
        )
        found.append(Found(detected, random.random(len(detected)), of))
    return found, truths


def test_the_average_precision_agrees_with_pycocotools() -> None:
    found, truths = boxes(80)
    ours = metrics.compute("detection", ["mAP50-95", "mAP50"], truths, found)

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number, "width": 500, "height": 500} for number in range(len(truths))],
            "categories": [{"id": number, "name": str(number)} for number in range(5)],
            "annotations": [
                {
                    "id": 100 * number + place + 1,
                    "image_id": number,
                    "category_id": int(one.classes[place]),
                    "bbox": [*box[:2], *(box[2:] - box[:2])],
                    "area": float(one.areas[place]),
                    "iscrowd": int(one.crowd[place]),
                }
                for number, one in enumerate(truths)
                for place, box in enumerate(one.boxes)
            ],
        }
        truth.createIndex()
        detections = truth.loadRes(
            [
                {
                    "image_id": number,
                    "category_id": int(one.classes[place]),
                    "bbox": [*box[:2], *(box[2:] - box[:2])],
                    "score": float(one.scores[place]),
                }
                for number, one in enumerate(found)
                for place, box in enumerate(one.boxes)
            ]
        )
        oracle = COCOeval(truth, detections, "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    assert 0.1 < oracle.stats[0] < oracle.stats[1] < 1
    assert ours == pytest.approx({"mAP50-95": oracle.stats[0], "mAP50": oracle.stats[1]}, abs=1e-6)


def test_a_detector_that_finds_nothing_or_everything() -> None:
    _, truths = boxes(10)
    nothing = [Found(np.empty((0, 4)), np.empty(0), np.empty(0, int)) for _ in truths]
    everything = [Found(one.boxes, np.ones(len(one.boxes)), one.classes) for one in truths]
    assert metrics.compute("detection", ["mAP50"], truths, nothing) == {"mAP50": 0.0}
    assert metrics.compute("detection", ["mAP50-95"], truths, everything) == {"mAP50-95": 1.0}


def test_labels_that_do_not_fit_the_predictions_are_refused() -> None:
    labels, scores = classes_and_scores()
    with pytest.raises(InvalidDataset, match="class 7, but the model has 7 classes"):
        metrics.compute("classification", ["accuracy"], labels + 2, scores)
    with pytest.raises(InvalidDataset, match="class -1"):
        metrics.compute("classification", ["accuracy"], labels - 1, scores)
    with pytest.raises(InvalidDataset, match=r"\[2\] numbers for each row, but the label has \[1\]"):
        metrics.compute("regression", ["mse"], np.zeros((3, 1)), np.zeros((3, 2)))
    with pytest.raises(InvalidDataset, match="NaN"):
        metrics.compute("regression", ["mse"], np.zeros((3, 1)), np.full((3, 1), np.nan))
    with pytest.raises(InvalidDataset, match=r"\[2, 2\] pixels"):
        metrics.compute("segmentation", ["iou"], np.zeros((1, 4, 4), int), np.zeros((1, 2, 2), int))


def test_names_are_checked_with_the_task() -> None:
    assert metrics.check(["top5_accuracy", "f1", "top5"], "classification") == ["top5", "f1"]
    assert metrics.check(None, "regression") == ["mse", "mae", "r2"]
    with pytest.raises(UnsupportedOption, match="'mse' is no metric of a classification") as caught:
        metrics.check(["mse"], "classification")
    assert caught.value.allowed == metrics.names_of("classification")
    with pytest.raises(UnsupportedOption, match="'auc' is no metric"):
        metrics.check(["auc"])


def test_thresholds_are_checked() -> None:
    assert metrics.check_thresholds({"accuracy_drop_max": 0.02, "mAP50-95_drop_max": 1}) == {
        "accuracy": 0.02,
        "mAP50-95": 1.0,
    }
    assert metrics.check_thresholds(None) == {}
    wrong: list[Any] = [
        {"accuracy": 0.1},
        {"loss_drop_max": 0.1},
        {"f1_drop_max": -1},
        {"f1_drop_max": True},
        [1],
    ]
    for given in wrong:
        with pytest.raises(UnsupportedOption, match="fail_threshold"):
            metrics.check_thresholds(given)
    with pytest.raises(UnsupportedOption, match="Use f1_drop_max"):
        metrics.check_thresholds({"accuracy_drop_max": 0.1}, ["f1"])


def test_classes_without_scores_have_no_top5() -> None:
    labels, scores = classes_and_scores()
    found = metrics.tally("classification")
    found.add(scores.argmax(axis=1), labels)
    assert found.lacking == {"top5"}
    assert found.values(["accuracy"]) == metrics.compute("classification", ["accuracy"], labels, scores)
    with pytest.raises(InvalidDataset, match="without scores"):
        found.values(["top5"])
