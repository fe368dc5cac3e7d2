"""Convert the raw boxes of a detector to detections in the image, as specified in ``declared.py``.

Needs numpy, and of this project only ``image.Geometry``: a package's Python wrapper contains this file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .image import Geometry

_Floats = npt.NDArray[np.float32]
MAX_CANDIDATES = 30_000


def detect(
    raw: npt.NDArray[np.floating[Any]],
    geometries: Sequence[Geometry],
    declared: Mapping[str, Any],
    classes: Sequence[str] | None,
) -> list[list[dict[str, Any]]]:
    """Return the detections of each image of the batch, best first.

    Args:
        raw: float[batch, values, anchors] or float[batch, anchors, values], as ``declared`` specifies.
        geometries: one per image.
        declared: the completed postprocessing of metadata.json.
        classes: labels; without labels, the name of a class is its id.

    Raises:
        ValueError: the output does not fit the declaration.
    """
    if raw.ndim != 3 or len(geometries) != raw.shape[0]:
        raise ValueError(f"Detection needs an output of three axes, not {list(raw.shape)}.")
    nms, form = declared["nms"], declared["output_format"]
    found = []
    for values, geometry in zip(raw, geometries, strict=True):
        boxes, scores, ids = candidates(values, geometry, declared["raw_output"], nms["confidence_threshold"])
        if nms["enabled"]:
            kept = suppress(
                boxes, ids, nms["iou_threshold"], nms["max_detections"], agnostic=nms["class_agnostic"]
            )
        else:
            kept = np.arange(min(len(boxes), nms["max_detections"]))
        corners = geometry.to_image(boxes[kept])
        found.append(
            [
                {
                    "class": classes[index] if classes and 0 <= index < len(classes) else str(index),
                    "class_id": index,
                    "confidence": float(score),
                    "bbox": [float(one) for one in _box(corner, form, geometry)],
                }
                for corner, score, index in zip(corners, scores[kept], ids[kept].tolist(), strict=True)
            ]
        )
    return found


def candidates(
    raw: npt.NDArray[np.floating[Any]], geometry: Geometry, declared: Mapping[str, Any], threshold: float
) -> tuple[_Floats, _Floats, npt.NDArray[np.int64]]:
    """Return boxes (float32[N, 4] x1, y1, x2, y2 in input pixels), confidences and class ids, best first."""
    values = np.asarray(raw, np.float32)
    if declared["layout"] == "values_anchors":
        values = values.T
    kind, _, rest = declared["format"].partition("_")
    scores, ids = _scores(values, rest, declared["classes"])
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(scores > np.float32(threshold))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:MAX_CANDIDATES]
    boxes = values[chosen, :4]
    if declared["coordinates"] == "normalized":
        boxes = boxes * np.array([geometry.input_width, geometry.input_height] * 2, np.float32)
    return corners_of(boxes, kind), scores[chosen], ids[chosen]


def _scores(values: _Floats, rest: str, classes: int | None) -> tuple[_Floats, npt.NDArray[np.int64]]:
    start = 5 if rest.startswith("conf") else 4
    if rest == "conf_class":
        if values.shape[1] < 6:
            raise ValueError(f"xyxy_conf_class has 6 values per box, not {values.shape[1]}.")
        return values[:, 4], values[:, 5].astype(np.int64)
    count = values.shape[1] - start if classes is None else classes
    if count < 1 or values.shape[1] < start + count:
        raise ValueError(
            f"{values.shape[1]} values per box are too few for {start} and {max(count, 1)} classes."
        )
    each = values[:, start : start + count]
    ids = each.argmax(axis=1)
    best = np.take_along_axis(each, ids[:, None], axis=1)[:, 0]
    return (best * values[:, 4] if start == 5 else best), ids


def corners_of(boxes: _Floats, kind: str) -> _Floats:
    """Convert float32[N, 4] of the kind ``xyxy``, ``xywh`` or ``cxcywh`` to x1, y1, x2, y2."""
    if kind == "xyxy":
        return boxes
    start, size = boxes[:, :2], boxes[:, 2:]
    if kind == "cxcywh":
        half = size / np.float32(2)
        return np.concatenate([start - half, start + half], axis=1)
    return np.concatenate([start, start + size], axis=1)


def suppress(
    boxes: _Floats, ids: npt.NDArray[np.int64], iou_threshold: float, limit: int, agnostic: bool = False
) -> npt.NDArray[np.int64]:
    """Return the indices of boxes kept by greedy non-maximum suppression; the boxes are sorted best first."""
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(int(best))
        overlaps = iou(boxes[best], boxes[left]) > np.float32(iou_threshold)
        left = left[~(overlaps if agnostic else overlaps & (ids[left] == ids[best]))]
    return np.array(kept, np.int64)


def iou(box: _Floats, others: _Floats) -> _Floats:
    """Return the intersection over union of float32[4] with float32[N, 4]; 0 for an empty union."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, np.float32(0)).prod(axis=1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    union = area + (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1]) - shared
    ratio: _Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def _box(corner: _Floats, declared: Mapping[str, Any], geometry: Geometry) -> _Floats:
    start, end = corner[:2], corner[2:]
    if declared["coordinates"] == "normalized":
        size = np.array([geometry.width, geometry.height], np.float32)
        start, end = start / size, end / size
    if declared["bbox_format"] == "xyxy":
        return np.concatenate([start, end])
    first = (start + end) / np.float32(2) if declared["bbox_format"] == "cxcywh" else start
    return np.concatenate([first, end - start])
