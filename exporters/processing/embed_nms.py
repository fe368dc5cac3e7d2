"""Non-maximum suppression in the graph: see ``embed``.

The network gets an additional first output, ``detections``, float32[batch, N, 6]: x1, y1, x2, y2 in pixels of
the input, the confidence, and the id of the class; best first, rows of zeros after the last.

The network's own outputs are kept. An artefact's boxes are compared with its source's number by number, and
its detections with the detections that the host computes from the artefact's boxes: a score that differs in
its last digit may change which of two boxes is dropped.

The graph has matrix operators only, which every format supports. It uses the best CANDIDATES boxes of an
image. A box is dropped if a better, kept box overlaps it too much. This is applied to all boxes at once,
ROUNDS times, which is exact unless more than ROUNDS boxes drop each other in a chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import PROGRAM, Arrays, Source
from .detect import candidates, suppress
from .image import Geometry

NAME = "detections"
CANDIDATES = 300
ROUNDS = 64
MOST = 1000  # detections: the pairwise overlaps of so many boxes take 4 MB


def on_the_host(raw: npt.NDArray[Any], declared: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the ``detections`` of a raw output. ``declared`` is the result of ``declaration``."""
    nms, (width, height) = declared["nms"], declared["size"]
    anchors = raw.shape[2 if declared["raw_output"]["layout"] == "values_anchors" else 1]
    entering, limit = _sizes(nms, anchors)
    geometry = Geometry(width, height, width, height, 0, 0, width, height)
    found = np.zeros((len(raw), limit, 6), np.float32)
    for rows, values in zip(found, raw, strict=True):
        best = candidates(values, geometry, declared["raw_output"], nms["confidence_threshold"])
        boxes, scores, ids = best[0][:entering], best[1][:entering], best[2][:entering]
        kept = np.arange(min(len(boxes), limit))
        if nms["enabled"]:
            kept = suppress(boxes, ids, nms["iou_threshold"], limit, agnostic=nms["class_agnostic"])
        rows[: len(kept)] = np.column_stack([boxes[kept], scores[kept], ids[kept]])
    return found


def declaration(source: Source, after: Mapping[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """Return the package's record of the embedded postprocessing. ``size``: width and height of the input."""
    output = next(iter(source.reference(_example(source))))
    return {"output": output, "size": list(size), "nms": after["nms"], "raw_output": after["raw_output"]}


def derive(outputs: Mapping[str, npt.NDArray[Any]], declared: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the ``detections`` that follow from the other outputs."""
    return on_the_host(np.asarray(outputs[declared["output"]]), declared)


def extend(source: Source, declared: Mapping[str, Any]) -> Source:
    """Return the network with ``detections``. Raises InvalidSource, as ``sources.eager.load``."""
    import torch

    from ..sources import eager
    from ..sources.tensors import flatten_outputs

    inner = source.program
    if source.family == PROGRAM:
        inner = source.program.module(check_guards=False)
        inner.train = lambda mode=True: inner  # it has no mode, and its train() raises
    names = {spec.name for spec in source.inputs}

    class Detecting(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = inner

        def forward(self, *flat: Any) -> Any:
            outputs = flatten_outputs(self.network(*flat), names)
            return {NAME: _detections(outputs[declared["output"]], declared), **outputs}

    network = eager.Network(
        Detecting().eval(),
        source.inputs,
        dimensions=source.dimensions,
        integers=source.integers,
        classes=source.classes,
        attachments=source.attachments,
    )

    def reference(arrays: Arrays) -> Arrays:
        outputs = source.reference(arrays)
        return {NAME: derive(outputs, declared), **outputs}

    return replace(
        eager.load(source.kind, network),
        dimensions=source.dimensions,
        shapes=source.shapes,
        reference=reference,
        probes=source.probes,
        derived={NAME: lambda outputs: derive(outputs, declared)},
    )


def _example(source: Source) -> Arrays:
    sizes = {name: one.example or max(one.minimum, 2) for name, one in source.dimensions.items()}
    shapes = source.shapes(sizes)
    return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in source.inputs}


def _sizes(nms: Mapping[str, Any], anchors: int) -> tuple[int, int]:
    """Return how many boxes are candidates, and how many can be kept."""
    limit = nms["max_detections"]
    return min(anchors, max(limit, CANDIDATES)), min(anchors, limit)


def _detections(raw: Any, declared: Mapping[str, Any]) -> Any:
    import torch

    nms = declared["nms"]
    boxes, scores, ids = _read(raw, declared)
    entering, limit = _sizes(nms, int(scores.shape[1]))
    scores = torch.where(scores > nms["confidence_threshold"], scores, torch.zeros_like(scores))
    scores, order = torch.topk(scores, entering, dim=1)
    boxes, ids = _taken(boxes, order), torch.gather(ids, 1, order)
    if nms["enabled"]:
        drops = _overlaps(boxes) > nms["iou_threshold"]
        if not nms["class_agnostic"]:
            drops = drops & (ids.unsqueeze(2) == ids.unsqueeze(1))
        better = torch.ones(entering, entering).tril(-1)  # row i: the boxes before i
        drops = drops.to(torch.float32) * better
        stays = torch.ones_like(scores)
        for _ in range(min(ROUNDS, entering - 1)):
            dropped = torch.matmul(drops, (stays * (scores > 0)).unsqueeze(2)).squeeze(2)
            stays = (dropped < 0.5).to(torch.float32)
        scores = scores * stays
    scores, order = torch.topk(scores, limit, dim=1)
    found = torch.cat(
        [_taken(boxes, order), scores.unsqueeze(2), torch.gather(ids, 1, order).unsqueeze(2)], 2
    )
    return found * (scores > 0).to(torch.float32).unsqueeze(2)


def _read(raw: Any, declared: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return corners float32[batch, anchors, 4], and confidences and class ids float32[batch, anchors]."""
    import torch

    form = declared["raw_output"]
    values = raw.to(torch.float32)
    if form["layout"] == "values_anchors":
        values = values.transpose(1, 2)
    kind, _, rest = form["format"].partition("_")
    if rest == "conf_class":
        scores, ids = values[:, :, 4], values[:, :, 5]
    else:
        start = 5 if rest.startswith("conf") else 4
        each = (
            values[:, :, start:] if form["classes"] is None else values[:, :, start : start + form["classes"]]
        )
        scores, best = each.max(dim=2)
        ids = best.to(torch.float32)
        scores = scores * values[:, :, 4] if start == 5 else scores
    start, size = values[:, :, :2], values[:, :, 2:4]
    if form["coordinates"] == "normalized":
        scale = torch.tensor(declared["size"], dtype=torch.float32)
        start, size = start * scale, size * scale
    if kind == "cxcywh":
        start, size = start - size / 2, start + size / 2
    elif kind == "xywh":
        size = start + size
    return torch.cat([start, size], 2), scores, ids


def _taken(boxes: Any, order: Any) -> Any:
    import torch

    return torch.gather(boxes, 1, order.unsqueeze(2).expand(-1, -1, 4))


def _overlaps(boxes: Any) -> Any:
    """Return the intersection over union of all pairs, float32[batch, N, N]; 0 for an empty union."""
    import torch

    one, other = boxes.unsqueeze(2), boxes.unsqueeze(1)
    starts, ends = torch.maximum(one, other), torch.minimum(one, other)
    sides = (ends[:, :, :, 2:] - starts[:, :, :, :2]).clamp(min=0)
    shared = sides[:, :, :, 0] * sides[:, :, :, 1]
    area = (boxes[:, :, 2] - boxes[:, :, 0]) * (boxes[:, :, 3] - boxes[:, :, 1])
    union = area.unsqueeze(2) + area.unsqueeze(1) - shared
    empty = union <= 0
    return torch.where(
        empty, torch.zeros_like(shared), shared / torch.where(empty, torch.ones_like(union), union)
    )
