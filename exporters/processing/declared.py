"""The declaration of a model's preprocessing and postprocessing, and its exact specification.

Standard library only: an API validates with it. The reference implementation is ``image.py``, ``resize.py``,
``classify.py`` and ``detect.py``; every wrapper does the same. ``complete_…`` fill in the defaults, and
metadata.json holds the completed form, so that readers of a package need no defaults.

preprocessing of an image
    {"resize": {...} | null, "normalize": {...} | null, "format": {...}, "embedded": false}
    The steps run in this order on an image decoded to 8-bit RGB, row by row (HWC, R first), as displayed
    (the EXIF orientation is applied, alpha is dropped, grey is R = G = B). W, H are its width and height,
    w, h the requested ones, W', H' those after scaling. // rounds down, rounded(x) is floor(x + 0.5) in
    float64.

    1. resize: {"method", "size": [w, h], "fill_value", "stride", "crop_fraction", "interpolation",
       "antialias"}; null: the image must have the right size. ``size`` is width first, as in OpenCV.
       - "resize": to w, h, ignoring the proportions. W' = w, H' = h, left = top = 0.
       - "letterbox": r = min(w / W, h / H), W' = max(1, min(w, rounded(W * r))), H' likewise. The rest is
         filled with ``fill_value`` in all channels: left = (w - W') // 2, top = (h - H') // 2. Both sides of
         ``size`` are multiples of ``stride``.
       - "center_crop": r = max(w / (c * W), h / (c * H)) where c = ``crop_fraction``,
         W' = max(w, rounded(W * r)), H' likewise; then w, h are cropped from the middle:
         left = -((W' - w) // 2), top = -((H' - h) // 2).
       In all three, the point (x, y) of the result is the point
       ((x - left) * W / W', (y - top) * H / H') of the image. Interpolation gives 8-bit pixels, computed with
       integers, so that it is the same everywhere. Along one axis, from size S to size s:
       - "nearest": out[x] = in[((2x + 1) * S) // (2s)].
       - "bilinear" without ``antialias`` (cv2.INTER_LINEAR, ONNX Resize half_pixel; at most 1 apart from
         cv2): p = max(0, (2x + 1) * S - s), i = p // (2s), f = ((p - i * 2s) * 2048 + s) // (2s); if
         i >= S - 1, then i = S - 1 and f = 0; j = min(i + 1, S - 1). Both axes at once:
         out = ((in[iy, ix] * (2048 - fx) + in[iy, jx] * fx) * (2048 - fy)
                + (in[jy, ix] * (2048 - fx) + in[jy, jx] * fx) * fy + 2**21) >> 22.
       - "bilinear" and "bicubic" with ``antialias`` (Pillow's, so torchvision's, timm's and transformers' on
         PIL images): ``resize.weights`` in float64, rounded to 22 bits; the horizontal pass first, rounded to
         8 bits, then the vertical one; an axis whose size does not change is skipped. Each pass equals
         Pillow's; recent versions start with the cheaper pass, and then differ by that rounding.
    2. format.color_space: "RGB", "BGR" (channels reversed), "GRAY" (one channel,
       (19595 * R + 38470 * G + 7471 * B + 32768) >> 16).
    3. normalize: {"method": "standard", "scale", "mean": [per channel], "std": [per channel]}; null: none.
       (pixel * scale - mean) / std in float32, channels as in color_space. The default of
       ``scale`` is 1/255 if no mean and no std is above 1 (they refer to pixels from 0 to 1), otherwise 1
       (pixels from 0 to 255).
    4. format.output_layout: "NCHW" or "NHWC", with the batch axis first; format.dtype: "float32", "float16",
       or "uint8" (without normalize). format.input_layout is "HWC".

    If ``embedded`` is true (set by an export with ``embed_preprocessing``), steps 2 to 4 are in the graph,
    which takes uint8[batch, h, w, 3] RGB; the caller does step 1 only.

preprocessing of text
    {"tokenizer": {"type": "huggingface", "file": "tokenizer.json", "max_length", "padding", "truncation"}}
    ``file`` is in the package, as the ``tokenizers`` library writes it. ``padding``: "max_length", "longest"
    or "none". It produces the model's inputs named input_ids, attention_mask and token_type_ids.

postprocessing of a classifier
    {"softmax": false, "top_k": 1, "embedded": false}
    Take the first output, float[batch, classes]. With ``softmax``, apply softmax over the classes in float32,
    after subtracting the maximum. Return the ``top_k`` best classes of each row, best first; of equal scores
    the lower id comes first: {"class", "class_id", "confidence"}. If ``embedded`` is true, the softmax is in
    the graph.

postprocessing of a detector
    {"nms": {"enabled", "iou_threshold", "confidence_threshold", "max_detections", "class_agnostic"},
     "raw_output": {"format", "layout", "coordinates", "classes"},
     "output_format": {"bbox_format", "coordinates"}}
    Take the first output. All steps compute in float32:
    1. raw_output.layout: "values_anchors" is float[batch, values, anchors] (YOLOv8 and later),
       "anchors_values" float[batch, anchors, values] (YOLOv5). ``format`` describes the values: 4 of the
       box ("cxcywh", "xyxy" or "xywh", in pixels of the network's w, h, or with ``coordinates`` "normalized"
       as fractions of them), "_conf" an objectness, "_classes" a score per class; "xyxy_conf_class" is an
       end-to-end model's (box, confidence, id of the class). ``classes`` is the number of scores; null: all
       remaining values. Further values are ignored.
    2. confidence = best class score (of equal ones the lower id), times the objectness. A box is kept if
       its confidence is above confidence_threshold.
    3. Sort best first, ties by anchor, and keep the 30,000 best. With ``enabled``, a box is dropped if a
       better kept box (of its own class, unless ``class_agnostic``) has IoU > iou_threshold with it;
       IoU = intersection / union on corners x1 = cx - w / 2, x2 = cx + w / 2; 0 for an empty union. The first
       ``max_detections`` are kept.
    4. Convert to image coordinates by step 1 of the preprocessing, clipped to the image; bbox_format
       "xyxy", "xywh" (x and y of the upper left corner) or "cxcywh"; "normalized" divides by W and H.
    The result is {"class", "class_id", "confidence", "bbox": [4 numbers]}, best first. If ``embedded`` is
    true (set by an export with ``embed_postprocessing``), steps 1 to 3 are in the graph, except higher
    thresholds of a request; ``embedded_from`` has the declaration that they follow.

A class has its name from ``classes`` if they are given, otherwise its id. They can also be given as
``labels`` of a postprocessing.
"""

from collections.abc import Mapping
from typing import Any

from .fields import (
    REQUIRED,
    Field,
    Section,
    boolean,
    finite,
    integer,
    known,
    list_of,
    number,
    one_of,
    refused,
    section,
)

RAW_FORMATS = (
    "cxcywh_classes",
    "xyxy_classes",
    "xywh_classes",
    "cxcywh_conf_classes",
    "xyxy_conf_classes",
    "xywh_conf_classes",
    "xyxy_conf_class",
)
LAYOUTS = ("values_anchors", "anchors_values")


_MAX_SIDE = 8192
_RESIZE: Section = {
    "method": one_of(REQUIRED, "resize", "letterbox", "center_crop"),
    "size": list_of(
        f"[width, height], each from 1 to {_MAX_SIDE}",
        lambda v: len(v) == 2 and all(type(side) is int and 1 <= side <= _MAX_SIDE for side in v),
    ),
    "fill_value": integer(114, 0, 255),
    "stride": integer(1, 1, 1024),
    "crop_fraction": number(0.875, 0.01, 1),
    "interpolation": one_of("bilinear", "bilinear", "nearest", "bicubic"),
    "antialias": boolean(False),
}
_NORMALIZE: Section = {
    "method": one_of("standard", "standard"),
    "scale": Field(None, "a number above 0", lambda value: finite(value) and value > 0),
    "mean": list_of(
        "a list of one number per channel", lambda v: 0 < len(v) <= 3 and all(map(finite, v)), [0.0]
    ),
    "std": list_of(
        "a list of one number per channel, none of them 0",
        lambda v: 0 < len(v) <= 3 and all(finite(one) and one > 0 for one in v),
        [1.0],
    ),
}
_FORMAT: Section = {
    "input_layout": one_of("HWC", "HWC"),
    "output_layout": one_of("NCHW", "NCHW", "NHWC"),
    "color_space": one_of("RGB", "RGB", "BGR", "GRAY"),
    "dtype": one_of("float32", "float32", "float16", "uint8"),
}
_TOKENIZER: Section = {
    "type": one_of("huggingface", "huggingface"),
    "file": one_of("tokenizer.json", "tokenizer.json"),
    "max_length": integer(512, 1, 1_000_000),
    "padding": one_of("longest", "max_length", "longest", "none"),
    "truncation": boolean(True),
}
_NMS: Section = {
    "enabled": boolean(True),
    "iou_threshold": number(0.45, 0, 1),
    "confidence_threshold": number(0.25, 0, 1),
    "max_detections": integer(300, 1, 30_000),
    "class_agnostic": boolean(False),
}
_RAW_OUTPUT: Section = {
    "format": one_of("cxcywh_classes", *RAW_FORMATS),
    "layout": Field(None, " or ".join(LAYOUTS), lambda value: isinstance(value, str) and value in LAYOUTS),
    "coordinates": one_of("absolute", "absolute", "normalized"),
    "classes": integer(None, 1, 1_000_000),
}
_OUTPUT_FORMAT: Section = {
    "bbox_format": one_of("xyxy", "xyxy", "xywh", "cxcywh"),
    "coordinates": one_of("absolute", "absolute", "normalized"),
}
_SCORES: Section = {
    "softmax": boolean(False),
    "top_k": integer(1, 1, 1_000_000),
}
# Settings that a caller may choose for one request.
DETECTOR_CHOICES: Section = {
    name: _NMS[name] for name in ("confidence_threshold", "iou_threshold", "max_detections")
}
CLASSIFIER_CHOICES: Section = {"top_k": _SCORES["top_k"]}
_LABELS = list_of("a list of texts", lambda value: all(isinstance(one, str) for one in value))

_PREPROCESSING = {"resize": _RESIZE, "normalize": _NORMALIZE, "format": _FORMAT, "tokenizer": _TOKENIZER}
_POSTPROCESSING = {"nms": _NMS, "raw_output": _RAW_OUTPUT, "output_format": _OUTPUT_FORMAT}


def complete_preprocessing(declared: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the declaration with every default filled in; None if nothing is declared.

    Raises:
        UnsupportedOption: an unknown name, or a value that is not supported; ``allowed`` lists the valid
            ones.
    """
    if declared is None:
        return None
    known("preprocessing", declared, [*_PREPROCESSING, "embedded"])
    declared = _without_embedded("preprocessing", declared)
    if declared.get("tokenizer") is not None:
        if len(declared) > 1:
            raise refused("preprocessing", "Text supports a tokenizer and nothing else", ["tokenizer"])
        return {"tokenizer": section("preprocessing.tokenizer", declared["tokenizer"], _TOKENIZER)}
    resize, normalize = declared.get("resize"), declared.get("normalize")
    done = section("preprocessing.format", declared.get("format") or {}, _FORMAT)
    return {
        "resize": None if resize is None else _check_resize(section("preprocessing.resize", resize, _RESIZE)),
        "normalize": None if normalize is None else _normalize(normalize, done),
        "format": done,
        "embedded": False,
    }


def complete_postprocessing(declared: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Like ``complete_preprocessing``, without ``labels``; a declaration with ``nms`` is a detector's."""
    if declared is None:
        return None
    known("postprocessing", declared, [*_SCORES, *_POSTPROCESSING, "labels", "embedded"])
    declared = _without_embedded("postprocessing", declared)
    class_names(declared.get("labels"), "postprocessing", "labels")
    scores = {name: value for name, value in declared.items() if name in _SCORES}
    if "nms" not in declared:
        wrong = next((name for name in ("raw_output", "output_format") if name in declared), None)
        if wrong:
            raise refused("postprocessing", f"{wrong} is only valid for a detector: declare nms too", ["nms"])
        return {**section("postprocessing", scores, _SCORES), "embedded": False}
    if scores:
        raise refused(
            "postprocessing",
            f"{next(iter(scores))} is not valid for a detector, which has nms",
            [*_POSTPROCESSING],
        )
    done = {
        name: section(f"postprocessing.{name}", declared.get(name) or {}, fields)
        for name, fields in _POSTPROCESSING.items()
    }
    raw = done["raw_output"]
    if raw["layout"] is None:
        raw["layout"] = LAYOUTS["conf" in raw["format"]]
    return done


def class_names(given: Any, option: str = "classes", field: str = "classes") -> list[str] | None:
    """Return the names of classes in the order of their ids.

    ``given`` is such a list, or [{"id": 0, "name": "cat"}, ...]. ``option`` and ``field`` are named in the
    error.

    Raises:
        UnsupportedOption: neither of these, or ids other than 0, 1, 2 and so on.
    """
    if given is None or _LABELS.accepts(given):
        return given if given is None else list(given)
    allowed = 'a list of names, or of {"id", "name"} with every id from 0 on exactly once'
    refusal = refused(option, f"{field} must be {allowed}", allowed)
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise refusal
    named = {one.get("id"): one.get("name") for one in given if type(one.get("id")) is int}
    names = [named.get(number) for number in range(len(given))]
    if any(one.keys() != {"id", "name"} for one in given) or not _LABELS.accepts(names):
        raise refusal
    return names  # type: ignore[return-value]  # texts, as _LABELS says


def labels(classes: list[str] | None, postprocessing: Mapping[str, Any] | None) -> list[str] | None:
    """Return the names of the classes, from ``classes`` or from the postprocessing's ``labels``.

    Raises:
        UnsupportedOption: two lists that differ.
    """
    named = class_names((postprocessing or {}).get("labels"), "postprocessing", "labels")
    if classes and named and classes != named:
        raise refused("postprocessing", "labels and classes are two different lists; remove one", ["classes"])
    return classes or named


def _check_resize(done: dict[str, Any]) -> dict[str, Any]:
    if any(side % done["stride"] for side in done["size"]):
        raise refused(
            "preprocessing",
            f"resize.size={done['size']} is not a multiple of the stride {done['stride']}",
            None,
        )
    if done["interpolation"] == "bicubic" and not done["antialias"]:
        raise refused("preprocessing", "resize.interpolation=bicubic needs antialias=true", [True])
    if done["interpolation"] == "nearest" and done["antialias"]:
        raise refused("preprocessing", "resize.interpolation=nearest does not support antialias", [False])
    return done


def _normalize(given: Any, layout: Mapping[str, Any]) -> dict[str, Any]:
    done = section("preprocessing.normalize", given, _NORMALIZE)
    if layout["dtype"] == "uint8":
        raise refused(
            "preprocessing",
            "normalize produces fractions, so format.dtype cannot be uint8",
            ["float32", "float16"],
        )
    channels = 1 if layout["color_space"] == "GRAY" else 3
    for name in ("mean", "std"):
        if len(done[name]) not in (1, channels):
            raise refused("preprocessing", f"normalize.{name} needs {channels} numbers", channels)
        done[name] = [float(one) for one in done[name]] * (channels // len(done[name]))
    if done["scale"] is None:
        unit = max(map(abs, (*done["mean"], *done["std"]))) <= 1
        done["scale"] = 1 / 255 if unit else 1.0
    return done


def _without_embedded(part: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    if declared.get("embedded"):
        raise refused(
            part,
            "'embedded' is set by an export: remove it, and export with the option embed_preprocessing",
            [False],
        )
    return {name: value for name, value in declared.items() if name != "embedded" and value is not None}
