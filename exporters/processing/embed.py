"""Check a request's declared processing against the model, and embed it in the model's graph if requested.

Embedded are colour, normalize, layout and dtype of the input, which becomes uint8[batch, h, w, 3] RGB, and a
classifier's softmax. The new source's reference computes both with this package's numpy code, like a host: a
verified artefact therefore behaves exactly like a wrapper without embedding.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import ONNX, PROGRAM, SCRIPT, Arrays, Case, Source, TensorSpec
from ..errors import UnsupportedOption
from ..request import ExportRequest
from . import declared


def complete(request: ExportRequest, options: Mapping[str, Any]) -> ExportRequest:
    """Return the request with processing and classes in metadata.json's form. Standard library only.

    Raises:
        UnsupportedOption: a declaration that is not supported, in general or with embed_preprocessing, or
            that contradicts reverse_input_channels.
    """
    before = declared.complete_preprocessing(request.preprocessing)
    if before is not None and (options.get("model_optimizer_args") or {}).get("reverse_input_channels"):
        raise UnsupportedOption(
            "reverse_input_channels swaps the colour channels of the artefact's input, but the "
            "declared preprocessing produces the model's own order. Remove reverse_input_channels; "
            "the preprocessing converts any image to the model's order.",
            allowed=[False],
            option="model_optimizer_args",
        )
    after = declared.complete_postprocessing(request.postprocessing)
    classes = declared.labels(request.classes, request.postprocessing)
    if after is not None and "nms" in after and after["raw_output"]["classes"] is None and classes:
        after["raw_output"]["classes"] = len(classes)
    if options.get("embed_preprocessing") and before is not None:
        if "tokenizer" in before:
            raise _nothing_to_embed()
        before["embedded"] = True
        if after is not None and after.get("softmax"):
            after["embedded"] = True
    return replace(request, preprocessing=before, postprocessing=after, classes=classes)


def check_source(source: Source, request: ExportRequest, options: Mapping[str, Any]) -> None:
    """Check that the declared preprocessing produces the model's input.

    Raises:
        UnsupportedOption: it produces another shape or dtype, needs a tokenizer that the model does not have,
            or there is none to embed.
    """
    before = request.preprocessing
    if before is None:
        if options.get("embed_preprocessing"):
            raise _nothing_to_embed()
        return
    if "tokenizer" in before:
        _check_text(source, before["tokenizer"]["file"])
        return
    spec = source.inputs[0]
    form, resize = before["format"], before["resize"]
    channels = 1 if form["color_space"] == "GRAY" else 3
    width, height = resize["size"] if resize else (None, None)
    made: tuple[int | str | None, ...] = ("batch", channels, height, width)
    if form["output_layout"] == "NHWC":
        made = ("batch", height, width, channels)
    fits = len(spec.shape) == 4 and all(
        not isinstance(have, int) or not isinstance(want, int) or have == want
        for have, want in zip(spec.shape, made, strict=True)
    )
    if len(source.inputs) != 1 or not fits or spec.dtype != form["dtype"]:
        shape = [size or "any" for size in made]
        takes = ", ".join(f"{one.name} {one.dtype}{list(one.shape)}" for one in source.inputs)
        raise UnsupportedOption(
            f"The declared preprocessing produces {form['dtype']}{shape}, but the model takes {takes}.",
            allowed=[one.to_json() for one in source.inputs],
            option="preprocessing",
        )


def with_suppression(
    source: Source, request: ExportRequest, options: Mapping[str, Any]
) -> tuple[Source, ExportRequest]:
    """Return source and request with the declared non-maximum suppression in the graph, if requested.

    Raises:
        UnsupportedOption: there is none to embed, or the model cannot be extended.
        InvalidSource: torch cannot follow the extended model.
    """
    after = request.postprocessing
    if not options.get("embed_postprocessing"):
        return source, request
    option: dict[str, Any] = {"allowed": [False], "option": "embed_postprocessing"}
    if after is None or "nms" not in after:
        raise UnsupportedOption(
            "embed_postprocessing embeds a detector's non-maximum suppression into the graph, but "
            "the postprocessing declares none. Declare postprocessing.nms, or remove "
            "embed_postprocessing.",
            **option,
        )
    from . import embed_nms

    if source.family not in (PROGRAM, SCRIPT):
        raise UnsupportedOption(
            "embed_postprocessing is only supported for torch networks. Export the checkpoint that "
            "this file was made from.",
            **option,
        )
    if after["nms"]["max_detections"] > embed_nms.MOST:
        raise UnsupportedOption(
            f"The graph returns at most {embed_nms.MOST} detections; "
            f"postprocessing.nms.max_detections is {after['nms']['max_detections']}.",
            **{**option, "allowed": embed_nms.MOST},
        )
    shape = source.inputs[0].shape
    resize = (request.preprocessing or {}).get("resize")
    sides = resize["size"] if resize else shape[:1:-1]
    size = [side for side in sides if isinstance(side, int)]
    if after["raw_output"]["coordinates"] == "normalized" and len(size) != 2:
        raise UnsupportedOption(
            "Normalized boxes need the size of the image. Declare preprocessing.resize.size.", **option
        )
    declared = embed_nms.declaration(source, after, size if len(size) == 2 else [1, 1])
    embedded = {
        **after,
        "nms": {**after["nms"], "enabled": False},
        "raw_output": {
            "format": "xyxy_conf_class",
            "layout": "anchors_values",
            "coordinates": "absolute",
            "classes": None,
        },
        "embedded": True,
        "embedded_from": declared,
    }
    return embed_nms.extend(source, declared), replace(request, postprocessing=embedded)


def as_declared(request: ExportRequest, source: Source, options: Mapping[str, Any]) -> ExportRequest:
    """Use the processing that the checkpoint declares, if the request declares none."""
    if request.preprocessing is not None or request.postprocessing is not None:
        return request
    before, after = source.preprocessing, source.postprocessing
    if before is None and after is None:
        return request
    given = replace(
        request, preprocessing=dict(before) if before else None, postprocessing=dict(after) if after else None
    )
    return complete(given, options)


def name_classes(request: ExportRequest, source: Source, case: Case) -> ExportRequest:
    """Return the request with the checkpoint's class names, if it has none of its own and they fit."""
    named = source.classes
    if request.classes or not named:
        return request
    after = request.postprocessing
    if after is not None and "nms" in after:
        raw = after["raw_output"]
        if raw["classes"] not in (None, len(named)):
            return request
        after = {**after, "raw_output": {**raw, "classes": len(named)}}
        return replace(request, classes=list(named), postprocessing=after)
    scores = next(iter(case.expected.values()))
    fits = scores.ndim == 2 and scores.shape[1] == len(named)
    return replace(request, classes=list(named)) if fits else request


def check_outputs(request: ExportRequest, case: Case) -> None:
    """Check that the declared postprocessing and the classes fit the model's outputs.

    Raises:
        UnsupportedOption: another number of classes, or outputs of another kind of model.
    """
    name, scores = next(iter(case.expected.items()))
    after, classes = request.postprocessing, request.classes
    if after is None:
        if classes and (scores.ndim != 2 or scores.shape[1] != len(classes)):
            raise UnsupportedOption(
                f"{len(classes)} class names are declared, but {name!r} has the shape {list(scores.shape)}.",
                allowed=scores.shape[-1] if scores.ndim else None,
                option="classes",
            )
        return
    from .pipeline import Pipeline

    named = [{"name": label} for label in classes] if classes else None
    metadata = {"classes": named, "preprocessing": None, "postprocessing": after, "input_specs": []}
    try:
        Pipeline(metadata, Path()).predictions(case.expected)
    except ValueError as exc:
        raise UnsupportedOption(
            f"The declared postprocessing does not fit the model's output {name!r}: {exc}",
            allowed=list(scores.shape),
            option="postprocessing",
        ) from exc


def embed(source: Source, request: ExportRequest, folder: Path) -> Source:
    """Return the source that takes pixels; ``source`` itself if nothing is to be embedded.

    Args:
        folder: where a new ONNX file may be written.

    Raises:
        UnsupportedOption: the model is of a family that cannot be extended.
        InvalidSource: torch cannot follow the extended model.
    """
    if not (request.preprocessing or {}).get("embedded"):
        return source
    before: Mapping[str, Any] = request.preprocessing or {}
    softmax = bool((request.postprocessing or {}).get("embedded"))
    spec = source.inputs[0]
    axes = (0, 2, 3) if before["format"]["output_layout"] == "NCHW" else (0, 1, 2)
    pixels = TensorSpec(spec.name, "uint8", (*(spec.shape[axis] for axis in axes), 3))
    if source.family in (PROGRAM, SCRIPT):
        from . import embed_torch

        extended = embed_torch.extend(source, pixels, before, softmax)
    elif source.family == ONNX:
        from . import embed_onnx

        extended = embed_onnx.extend(source, pixels, before, softmax, folder)
    else:
        raise UnsupportedOption(
            "embed_preprocessing is only supported for networks; this model is an estimator, which "
            "takes no images.",
            allowed=[False],
            option="embed_preprocessing",
        )

    def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        shape = source.shapes(sizes)[spec.name]
        return {spec.name: (*(shape[axis] for axis in axes), 3)}

    return replace(
        extended,
        reference=_on_the_host(source.reference, spec.name, before, softmax),
        shapes=shapes,
        integers={spec.name: (0, 255)},
    )


def _nothing_to_embed() -> UnsupportedOption:
    return UnsupportedOption(
        "embed_preprocessing embeds the declared preprocessing of an image into the graph, but "
        "none is declared. Declare preprocessing, or remove embed_preprocessing.",
        allowed=[False],
        option="embed_preprocessing",
    )


def _on_the_host(
    reference: Callable[[Arrays], Arrays], name: str, before: Mapping[str, Any], softmax: bool
) -> Callable[[Arrays], Arrays]:
    from .classify import probabilities
    from .image import convert

    def answer(arrays: Arrays) -> Arrays:
        outputs = reference({name: convert(arrays[name], before)})  # type: ignore[arg-type]  # uint8
        if softmax:
            first = next(iter(outputs))
            outputs[first] = probabilities(outputs[first])  # type: ignore[arg-type]  # scores are floating
        return outputs

    return answer


def _check_text(source: Source, file: str) -> None:
    takes = ("input_ids", "attention_mask", "token_type_ids")
    other = [spec.name for spec in source.inputs if spec.name not in takes]
    if other:
        raise UnsupportedOption(
            f"A tokenizer produces {', '.join(takes)}, but the model also takes {', '.join(other)}.",
            allowed=list(takes),
            option="preprocessing",
        )
    if file not in [path.name for path in source.attachments]:
        raise UnsupportedOption(
            f"The preprocessing refers to {file}, which was not uploaded with the model. Upload it "
            "next to the weights.",
            allowed=[path.name for path in source.attachments],
            option="preprocessing",
        )
