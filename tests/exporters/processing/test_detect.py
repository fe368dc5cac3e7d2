from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporters.processing.declared import complete_postprocessing
from exporters.processing.detect import detect, suppress
from exporters.processing.image import Geometry

AS_IS = Geometry(64, 48, 64, 48, 0, 0, 64, 48)


def _declared(**parts: Any) -> dict[str, Any]:
    done = complete_postprocessing({"nms": {}, **parts})
    assert done is not None
    return done


def _overlap(one: list[float], other: list[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if union > 0 else 0.0


# Whole numbers, and a threshold that no ratio of small ones meets: float32 then decides as exactly as Python.
corners = arrays.arrays(np.float32, (12, 2), elements=st.integers(0, 12).map(float))


@settings(deadline=None, max_examples=50)
@given(
    corners,
    corners,
    arrays.arrays(np.int64, 12, elements=st.integers(0, 2)),
    st.booleans(),
    st.integers(1, 12),
)
def test_suppression_is_the_definition(
    starts: npt.NDArray[np.float32],
    sizes: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int64],
    agnostic: bool,
    limit: int,
) -> None:
    boxes = np.concatenate([starts, starts + sizes], axis=1)

    kept: list[int] = []
    for index, box in enumerate(boxes.tolist()):
        rivals = [one for one in kept if agnostic or ids[one] == ids[index]]
        if all(_overlap(boxes[one].tolist(), box) <= 0.4571 for one in rivals):
            kept.append(index)

    assert suppress(boxes, ids, 0.4571, limit, agnostic).tolist() == kept[:limit]


def test_suppression_is_opencvs() -> None:
    random = np.random.default_rng(0)
    starts, sizes = random.uniform(0, 60, (200, 2)), random.uniform(5, 30, (200, 2))
    scores = np.sort(random.uniform(0.3, 1, 200))[::-1].astype(np.float32)
    boxes = np.concatenate([starts, starts + sizes], axis=1).astype(np.float32)

    mine = suppress(boxes, np.zeros(200, np.int64), 0.45, 300)

    theirs = cv2.dnn.NMSBoxes(np.concatenate([starts, sizes], 1).tolist(), scores.tolist(), 0.25, 0.45)
    assert mine.tolist() == np.asarray(theirs).flatten().tolist()


def _yolo() -> npt.NDArray[np.float32]:
    """float32[1, 4 + 2, 4]: two boxes of one cat, a dog at the same place, and one nobody is sure of."""
    boxes = [[20, 20, 10, 10], [21, 20, 10, 10], [20, 20, 10, 10], [50, 40, 8, 8]]
    scores = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.7], [0.2, 0.2]]
    return np.concatenate([np.array(boxes), np.array(scores)], axis=1).T[None].astype(np.float32)


def test_the_form_of_yolov8() -> None:
    (found,) = detect(_yolo(), [AS_IS], _declared(), ["cat", "dog"])

    assert [(one["class"], one["class_id"]) for one in found] == [("cat", 0), ("dog", 1)]
    assert found[0]["bbox"] == [15, 15, 25, 25]
    assert found[0]["confidence"] == pytest.approx(0.9)


def test_the_form_of_yolov5_is_the_same_boxes_with_an_objectness() -> None:
    raw = _yolo().transpose(0, 2, 1)
    older = np.concatenate([raw[..., :4], np.full((1, 4, 1), 0.5, np.float32), raw[..., 4:]], axis=2)
    declared = _declared(raw_output={"format": "cxcywh_conf_classes"})

    (found,) = detect(older, [AS_IS], declared, None)

    assert [(one["class"], one["confidence"]) for one in found] == [
        ("0", pytest.approx(0.45)),
        ("1", pytest.approx(0.35)),
    ]


def test_an_end_to_end_models_answers_are_only_filtered() -> None:
    rows = [[15, 15, 25, 25, 0.9, 0], [15, 15, 25, 25, 0.8, 0], [0, 0, 1, 1, 0.1, 1]]
    declared = _declared(
        nms={"enabled": False}, raw_output={"format": "xyxy_conf_class", "layout": "anchors_values"}
    )

    (found,) = detect(np.array([rows], np.float32), [AS_IS], declared, ["cat"])

    assert [one["confidence"] for one in found] == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize(
    ("form", "bbox"),
    [
        ({"bbox_format": "xyxy"}, [15, 15, 25, 25]),
        ({"bbox_format": "xywh"}, [15, 15, 10, 10]),
        ({"bbox_format": "cxcywh"}, [20, 20, 10, 10]),
        ({"coordinates": "normalized"}, [15 / 64, 15 / 48, 25 / 64, 25 / 48]),
    ],
    ids=str,
)
def test_boxes_come_as_they_are_asked_for(form: dict[str, str], bbox: list[float]) -> None:
    (found,) = detect(_yolo(), [AS_IS], _declared(output_format=form), None)

    assert found[0]["bbox"] == pytest.approx(bbox)


def test_boxes_are_of_the_image_and_stay_in_it() -> None:
    letterboxed = Geometry(128, 64, 64, 32, 0, 8, 64, 48)  # twice as large, with a border of 8 above

    (found,) = detect(_yolo(), [letterboxed], _declared(), None)
    (cut,) = detect(_yolo(), [Geometry(20, 20, 20, 20, 0, 0, 64, 48)], _declared(), None)

    assert found[0]["bbox"] == [30, 14, 50, 34]
    assert cut[0]["bbox"] == [15, 15, 20, 20]


def test_normalized_boxes_are_parts_of_the_input() -> None:
    raw = _yolo()
    raw[:, :4] /= np.array([64, 48, 64, 48], np.float32)[:, None]

    (found,) = detect(raw, [AS_IS], _declared(raw_output={"coordinates": "normalized"}), None)

    assert found[0]["bbox"] == pytest.approx([15, 15, 25, 25])


def test_values_past_the_classes_are_not_scores() -> None:
    raw = np.concatenate([_yolo(), np.full((1, 32, 4), 9, np.float32)], axis=1)

    (found,) = detect(raw, [AS_IS], _declared(raw_output={"classes": 2}), None)

    assert [one["class_id"] for one in found] == [0, 1]


def test_a_nan_is_no_detection() -> None:
    (found,) = detect(np.full((1, 6, 4), np.nan, np.float32), [AS_IS], _declared(), None)

    assert found == []


@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 4), (2, 6, 4)], ids=str)
def test_another_kind_of_output_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"values|axes"):
        detect(np.zeros(shape, np.float32), [AS_IS], _declared(), None)
