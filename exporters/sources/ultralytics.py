"""An Ultralytics checkpoint: a pickle of the whole network, as ``YOLO.train`` and ``YOLO.save`` write it.

``ultralytics_gate`` reads it. The rest follows Ultralytics' own exporter: float32, eval mode, convolutions
fused with their batch norms, and the head in its export mode. The outputs per task:

==========  ============================================================================================
detect      ``output0`` float32[batch, 4 + classes, anchors]: cx, cy, w, h in pixels, then a score per class
segment     the same with 32 coefficients more, and ``output1``, the prototypes of masks they belong to
pose        the same with the coordinates of key points
classify    ``output0`` float32[batch, classes]: probabilities
==========  ============================================================================================
"""

import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import imports
from ..base import Source, TensorSpec
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from . import eager, inputs, ultralytics_gate

_TASKS = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "ClassificationModel": "classify",
}
_EXAMPLE = 'inputs=[{"shape": ["batch", 3, 640, 640]}]'
_PIXELS = {"method": "standard", "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the checkpoint as a source. The option ``inputs`` may choose another image size than in training.

    Raises:
        UnsafeCheckpoint: it names a class that is not allowed; ``details`` has the name.
        InvalidSource: it holds no such network, or is damaged.
        UnsupportedOption: inputs that the network does not take.
        MissingDependency: Ultralytics cannot be imported.
    """
    _leave_repositories_alone()
    imports.require("ultralytics.nn.tasks", "pip install ultralytics.")
    try:
        checkpoint, model = ultralytics_gate.read(path)
        task, module = _prepare(model)
        spec, names = _input(options, checkpoint, model, task), _names(model)
        exported = _as_exported(module, spec)
        before, after = _processing(task, spec, model, names)
    except (InvalidSource, UnsafeCheckpoint, UnsupportedOption):
        raise
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The Ultralytics checkpoint cannot be used: {type(exc).__name__}: "
            f"{str(exc).strip()[:200]}. It may be damaged, or written by a newer Ultralytics than "
            "the installed one."
        ) from exc
    source = eager.load("ultralytics", eager.Network(exported, (spec,), classes=names))
    return replace(source, preprocessing=before, postprocessing=after)


def _leave_repositories_alone() -> None:
    """Replace a module before importing Ultralytics: it reads Git files, which confinement forbids."""
    name = "ultralytics.utils.git"
    if "ultralytics" not in sys.modules:
        found = dict.fromkeys(("root", "gitdir", "refdir", "head", "branch", "commit", "message", "origin"))
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].GitRepo = type("GitRepo", (), {**found, "is_repo": False})  # type: ignore[attr-defined]


def _prepare(model: Any) -> tuple[str, Any]:
    """Return the task, and the network: fused, float32, on the CPU."""
    from ..formats.torch_graph import quiet

    task = _TASKS.get(model.stands_for[1])
    if task is None:
        raise InvalidSource(
            f"A {model.stands_for[1]} is not supported; supported are {', '.join(_TASKS.values())}."
        )
    ultralytics_gate.revive(model)
    model.__dict__.pop("criterion", None)
    with quiet():
        return task, model.float().eval().fuse(verbose=False)


def _input(options: Mapping[str, Any], checkpoint: Mapping[str, Any], model: Any, task: str) -> TensorSpec:
    if options.get("inputs") is not None:
        spec = inputs.parse(options["inputs"], ["images"], "An Ultralytics checkpoint")[0]
        step = 1 if task == "classify" else _stride(model)
        fits = len(spec.shape) == 4 and spec.shape[1] == 3 and spec.dtype == "float32"
        if not fits or not all(isinstance(side, int) and side % step == 0 for side in spec.shape[2:]):
            raise UnsupportedOption(
                "An Ultralytics network takes float32 images of the shape [batch, 3, height, "
                f"width], where height and width are numbers that are multiples of {step}, not "
                f"names, because its grid has one fixed size. Send {_EXAMPLE}.",
                allowed=_EXAMPLE,
                option="inputs",
            )
        return spec
    trained = checkpoint.get("train_args") or getattr(model, "args", None) or {}
    if isinstance(trained, ultralytics_gate.StandIn):  # a namespace
        trained = trained.__dict__
    if not isinstance(trained, dict):
        raise InvalidSource(
            "The train_args of the checkpoint are not a dictionary. Save it with YOLO(...).save()."
        )
    size = trained.get("imgsz") or (224 if task == "classify" else 640)
    height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size, size)
    if not all(type(side) is int and 1 <= side <= 8192 for side in (height, width)):
        raise InvalidSource(
            f"The checkpoint was trained with the image size {str(size)[:60]}, which is not valid."
        )
    stride = _stride(model)
    sides: list[Any] = [height, width]
    return TensorSpec("images", "float32", ("batch", 3, *(-(-side // stride) * stride for side in sides)))


def _stride(model: Any) -> int:
    return max(int(model.stride.max()), 32)


def _names(model: Any) -> tuple[str, ...] | None:
    names = getattr(model, "names", None)
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


class _AnySize:
    """Stands for the shape for which a head computed its grid: equal to every shape of such images."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _as_exported(model: Any, spec: TensorSpec) -> Any:
    """Return a module with the outputs ``output0``, ``output1`` …

    The head keeps the grid that it computes for the image size of its first call, as in Ultralytics' exports.
    """
    import torch
    from ultralytics.nn.modules.head import Classify, Detect

    heads = [part for part in model.modules() if isinstance(part, (Detect, Classify))]
    for head in heads:
        head.export, head.format, head.dynamic = True, "onnx", False
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        model(torch.zeros(1, *spec.shape[1:]))
    for head in heads:
        if isinstance(head, Detect):
            head.shape = _AnySize()

    class Exported(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any) -> dict[str, Any]:
            answer = self.model(images)
            parts = answer if isinstance(answer, (tuple, list)) else (answer,)
            return {f"output{number}": part for number, part in enumerate(parts)}

    return Exported().eval()


def _processing(
    task: str, spec: TensorSpec, model: Any, names: tuple[str, ...] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the processing of Ultralytics' predictor, in the form of ``processing.declared``."""
    height, width = spec.shape[2:]
    form = {"input_layout": "HWC", "output_layout": "NCHW", "color_space": "RGB", "dtype": "float32"}
    if task == "classify":
        resize: dict[str, Any] = {"method": "center_crop", "interpolation": "bilinear", "antialias": True}
        after: dict[str, Any] = {"softmax": False, "top_k": min(5, len(names or range(5)))}
    else:
        resize = {"method": "letterbox", "fill_value": 114, "stride": _stride(model)}
        after = {
            "nms": {"iou_threshold": 0.7, "confidence_threshold": 0.25, "max_detections": 300},
            "raw_output": {
                "format": "cxcywh_classes",
                "layout": "values_anchors",
                "classes": len(names or ()) or None,
            },
        }
    return {"resize": {**resize, "size": [width, height]}, "normalize": _PIXELS, "format": form}, after
