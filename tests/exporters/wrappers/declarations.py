"""Declarations that between them take every branch of the generated pre- and postprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.processing import classify, detect, image
from exporters.processing.declared import complete_postprocessing, complete_preprocessing

LABELS = ["cat", 'do"g', "C:\\new??/", "na\u00efve\n\U0001f600", "${rm}", "\\(x)", "*/"]


@dataclass(frozen=True)
class Declaration:
    """``shape`` is that of a raw output; ``pixels`` the width and height of an image."""

    id: str
    preprocessing: dict[str, Any]
    postprocessing: dict[str, Any]
    shape: tuple[int, ...]
    pixels: tuple[int, int]
    classes: Sequence[str] | None = None
    embedded: bool = False

    @property
    def before(self) -> dict[str, Any]:
        done = complete_preprocessing(self.preprocessing)
        assert done is not None
        return {**done, "embedded": self.embedded}

    @property
    def after(self) -> dict[str, Any]:
        done = complete_postprocessing(self.postprocessing)
        assert done is not None
        return done

    @property
    def detects(self) -> bool:
        return "nms" in self.postprocessing

    def metadata(self, format_name: str) -> dict[str, Any]:
        """As much of metadata.json as the wrappers read."""
        inputs = [{"name": "image", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}]
        outputs = [{"name": "output", "dtype": "float32", "shape": ["batch", *self.shape[1:]]}]
        return {
            "model_info": {"model_name": 'a"; exit(1); //', "export_format": format_name},
            "preprocessing": self.before,
            "postprocessing": self.after,
            "input_spec": inputs[0],
            "input_specs": inputs,
            "output_spec": {"output": outputs[0]},
            "example_shapes": {"image": [1, 3, 8, 8]},
            "classes": self.classes and [{"id": i, "name": name} for i, name in enumerate(self.classes)],
            "artefact": {"files": ["model.bin"], "converter": "test"},
        }

    def photo(self) -> npt.NDArray[np.uint8]:
        width, height = self.pixels
        return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def raw(self) -> npt.NDArray[np.float32]:
        """Boxes that overlap one another, scores that tie, a class id where there is one."""
        generator = np.random.default_rng(4)
        if not self.detects:
            return generator.normal(size=self.shape).astype(np.float32)
        declared = self.after["raw_output"]
        batch, anchors = self.shape[0], self.shape[2 if declared["layout"] == "values_anchors" else 1]
        values = self.shape[1 if declared["layout"] == "values_anchors" else 2]
        found = generator.random((batch, anchors, values)).astype(np.float32)
        found[..., 4:] = np.round(found[..., 4:], 1)
        found[..., 0:2] *= 40
        found[..., 2:4] = found[..., 2:4] * 30 + (found[..., :2] if "xyxy" in declared["format"] else 2)
        if declared["coordinates"] == "normalized":
            found[..., :4] /= 64
        if declared["format"].endswith("conf_class"):
            found[..., 5] = generator.integers(0, 4, (batch, anchors))
        return found.transpose(0, 2, 1).copy() if declared["layout"] == "values_anchors" else found

    def reference(self) -> tuple[npt.NDArray[np.generic], image.Geometry, list[list[dict[str, Any]]]]:
        """What the numpy reference makes of ``photo()`` and ``raw()``."""
        tensor, geometry = image.prepare(self.photo(), self.before)
        raw, classes = self.raw(), self.classes
        if self.detects:
            return tensor, geometry, detect.detect(raw, [geometry] * len(raw), self.after, classes)
        after = self.after
        return tensor, geometry, classify.top_k(raw, classes, after["top_k"], after["softmax"])


DECLARATIONS = (
    Declaration(
        "letterbox-yolo",
        {
            "resize": {"method": "letterbox", "size": [64, 48]},
            "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        },
        {"nms": {}, "output_format": {"bbox_format": "cxcywh", "coordinates": "normalized"}},
        (2, 11, 60),
        (90, 37),
        LABELS,
    ),
    Declaration(
        "crop-classify",
        {
            "resize": {
                "method": "center_crop",
                "size": [20, 24],
                "interpolation": "bicubic",
                "antialias": True,
            },
            "normalize": {"mean": [127.5], "std": [128]},
            "format": {"color_space": "BGR", "output_layout": "NHWC", "dtype": "float16"},
        },
        {"softmax": True, "top_k": 3},
        (3, 7),
        (51, 33),
        LABELS,
    ),
    Declaration(
        "nearest-grey-yolov5",
        {
            "resize": {"method": "resize", "size": [31, 64], "interpolation": "nearest"},
            "format": {"color_space": "GRAY"},
        },
        {
            "nms": {"class_agnostic": True, "confidence_threshold": 0.2, "max_detections": 9},
            "raw_output": {"format": "xywh_conf_classes", "coordinates": "normalized", "classes": 3},
            "output_format": {"bbox_format": "xywh"},
        },
        (1, 50, 9),
        (100, 20),
    ),
    Declaration(
        "antialias-embedded-end-to-end",
        {
            "resize": {"method": "letterbox", "size": [16, 16], "antialias": True},
            "format": {"output_layout": "NCHW", "color_space": "BGR"},
        },
        {"nms": {"enabled": False}, "raw_output": {"format": "xyxy_conf_class"}},
        (1, 40, 6),
        (41, 77),
        LABELS[:2],
        embedded=True,
    ),
)
