import json
from typing import Any

import pytest

from exporters.errors import UnsupportedOption
from exporters.processing.declared import complete_postprocessing, complete_preprocessing, labels

SEED_PREPROCESSING = {
    "resize": {"method": "letterbox", "size": [640, 640], "fill_value": 114, "stride": 32},
    "normalize": {"method": "standard", "mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]},
    "format": {"input_layout": "HWC", "output_layout": "NCHW", "color_space": "RGB", "dtype": "float32"},
}
SEED_POSTPROCESSING = {
    "nms": {"enabled": True, "iou_threshold": 0.45, "confidence_threshold": 0.25, "max_detections": 300},
    "output_format": {"bbox_format": "xyxy", "coordinates": "absolute"},
}


def test_what_was_declared_stays_and_every_default_is_filled_in() -> None:
    done = complete_preprocessing(SEED_PREPROCESSING)

    assert done is not None
    for part, given in SEED_PREPROCESSING.items():
        assert given.items() <= done[part].items()
    assert done["embedded"] is False
    assert done["resize"] | {"interpolation": "bilinear", "antialias": False} == done["resize"]


def test_a_detector_says_how_its_boxes_come() -> None:
    done = complete_postprocessing(SEED_POSTPROCESSING)

    assert done is not None
    assert done["nms"]["max_detections"] == 300
    assert done["raw_output"]["layout"] == "values_anchors"
    older = complete_postprocessing({"nms": {}, "raw_output": {"format": "cxcywh_conf_classes"}})
    assert older is not None
    assert older["raw_output"]["layout"] == "anchors_values"


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1 / 255),
        ([0.0], [1.0], 1 / 255),
        ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0], 1.0),
        ([123.7, 116.3, 103.5], [1.0], 1.0),
    ],
    ids=["ImageNet", "nothing", "seed", "Caffe"],
)
def test_the_numbers_say_whether_pixels_go_to_1_or_to_255(
    mean: list[float], std: list[float], scale: float
) -> None:
    done = complete_preprocessing({"normalize": {"mean": mean, "std": std}})

    assert done is not None
    assert done["normalize"]["scale"] == scale
    assert len(done["normalize"]["mean"]) == len(done["normalize"]["std"]) == 3


@pytest.mark.parametrize("complete", [complete_preprocessing, complete_postprocessing])
def test_nothing_declared_is_nothing(complete: Any) -> None:
    assert complete(None) is None


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"colour": {}}, "colour"),
        ({"resize": {"method": "letterbox"}}, "size"),
        ({"resize": {"method": "stretch", "size": [1, 1]}}, "method"),
        ({"resize": {"method": "resize", "size": [640]}}, "size"),
        ({"resize": {"method": "resize", "size": [0, 640]}}, "size"),
        ({"resize": {"method": "resize", "size": [True, 640]}}, "size"),
        ({"resize": {"method": "letterbox", "size": [640, 650], "stride": 32}}, "stride"),
        ({"resize": {"method": "resize", "size": [8, 8], "interpolation": "bicubic"}}, "antialias"),
        ({"normalize": {"std": [0.0]}}, "std"),
        ({"normalize": {"mean": [1, 2]}}, "mean"),
        ({"normalize": {"mean": [float("nan")]}}, "mean"),
        ({"normalize": {"mean": [10**400]}}, "mean"),
        ({"normalize": {}, "format": {"dtype": "uint8"}}, "uint8"),
        ({"format": {"dtype": "int4"}}, "dtype"),
        ({"format": ["RGB"]}, "format"),
        ({"tokenizer": {"file": "../../etc/passwd"}}, "file"),
        ({"tokenizer": {}, "resize": None, "format": {}}, "tokenizer"),
        ({"embedded": True}, "embed_preprocessing"),
    ],
    ids=str,
)
def test_a_wrong_preprocessing_is_refused_by_name(declared: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedOption, match=named) as caught:
        complete_preprocessing(declared)

    assert caught.value.details["option"] == "preprocessing"
    json.dumps(caught.value.details)


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"threshold": 1}, "threshold"),
        ({"softmax": "yes"}, "softmax"),
        ({"top_k": 0}, "top_k"),
        ({"nms": True}, "nms"),
        ({"nms": {"iou_threshold": 2}}, "iou_threshold"),
        ({"nms": {"max_detections": 1.5}}, "max_detections"),
        ({"nms": {}, "softmax": True}, "softmax"),
        ({"output_format": {}}, "nms"),
        ({"nms": {}, "output_format": {"bbox_format": "polygon"}}, "bbox_format"),
        ({"nms": {}, "raw_output": {"format": "xyxy"}}, "format"),
        ({"nms": {}, "raw_output": {"layout": []}}, "layout"),
        ({"labels": [1]}, "labels"),
    ],
    ids=str,
)
def test_a_wrong_postprocessing_is_refused_by_name(declared: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedOption, match=named) as caught:
        complete_postprocessing(declared)

    assert caught.value.details["option"] == "postprocessing"
    assert caught.value.allowed


def test_labels_and_classes_are_the_same_list() -> None:
    assert labels(None, {"labels": ["a", "b"]}) == labels(["a", "b"], None) == ["a", "b"]
    with pytest.raises(UnsupportedOption, match="two different lists"):
        labels(["a", "b"], {"labels": ["b", "a"]})
