"""An Ultralytics checkpoint: a pickle of the whole network, as ``YOLO.train`` and ``YOLO.save`` write it.

It is read by torch's restricted unpickler, with an inert stand-in for every class that is allowed: nothing of
Ultralytics, or of torch.nn, is called while the file says what to do. (torch would call any class that it is
told is safe, with the file's own arguments; a constructor of Ultralytics evaluates text in them.) Only then
do the stand-ins become the networks that they stand for. The rest is what Ultralytics' own exporter does:
float32, eval mode, convolutions fused with their batch norms, and the head set to answer as an exported one
does.

==========  ============================================================================================
detect      ``output0`` float32[batch, 4 + classes, anchors]: cx, cy, w, h in pixels, then a score per class
segment     the same with 32 coefficients more, and ``output1``, the prototypes of masks they belong to
pose        the same with the coordinates of key points
classify    ``output0`` float32[batch, classes]: probabilities
==========  ============================================================================================
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..base import Source, TensorSpec
from ..errors import InvalidSource, MissingDependency, UnsafeCheckpoint, UnsupportedOption, as_limit
from ..request import Trust
from . import eager, inputs

# One module a line, then the classes of it that a network may consist of.
_LAYERS = """
torch.nn.modules.activation SiLU ReLU ReLU6 LeakyReLU Hardswish GELU Sigmoid Mish
torch.nn.modules.batchnorm BatchNorm2d
torch.nn.modules.container ModuleList Sequential
torch.nn.modules.conv Conv2d ConvTranspose2d
torch.nn.modules.dropout Dropout
torch.nn.modules.linear Identity Linear
torch.nn.modules.normalization LayerNorm
torch.nn.modules.padding ZeroPad2d
torch.nn.modules.pooling AdaptiveAvgPool2d AvgPool2d MaxPool2d
torch.nn.modules.upsampling Upsample
ultralytics.nn.modules.block A2C2f AAttn ABlock AConv ADown Attention Bottleneck BottleneckCSP C1 C2 C2PSA C2f
ultralytics.nn.modules.block C2fCIB C2fPSA C3 C3Ghost C3k C3k2 C3x CBFuse CBLinear CIB DFL ELAN1
ultralytics.nn.modules.block GhostBottleneck
ultralytics.nn.modules.block PSA PSABlock Proto RepBottleneck RepC3 RepCSP RepNCSPELAN4 RepVGGDW SCDown SPP
ultralytics.nn.modules.block SPPELAN SPPF
ultralytics.nn.modules.conv CBAM ChannelAttention Concat Conv Conv2 ConvTranspose DWConv DWConvTranspose2d
ultralytics.nn.modules.conv Focus
ultralytics.nn.modules.conv GhostConv Index LightConv RepConv SpatialAttention
ultralytics.nn.modules.head Classify Detect OBB Pose Segment v10Detect
ultralytics.nn.tasks ClassificationModel DetectionModel OBBModel PoseModel SegmentationModel
"""
# What a training run leaves beside the network; read past, and never made.
_BYSTANDERS = """
ultralytics.utils IterableSimpleNamespace
ultralytics.utils.loss v8ClassificationLoss v8DetectionLoss v8PoseLoss v8SegmentationLoss v8OBBLoss BboxLoss
ultralytics.utils.loss DFLoss
ultralytics.utils.loss KeypointLoss
ultralytics.utils.tal TaskAlignedAssigner RotatedTaskAlignedAssigner
torch.nn.modules.loss BCEWithLogitsLoss
numpy dtype
numpy.core.multiarray scalar
numpy._core.multiarray scalar
_codecs encode
pathlib PosixPath
"""
_TASKS = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "ClassificationModel": "classify",
}
_EXAMPLE = 'inputs=[{"shape": ["batch", 3, 640, 640]}]'
_PIXELS = {"method": "standard", "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """The option ``inputs`` may choose another size of image than the network was trained with.

    Raises:
        UnsafeCheckpoint: it names a class that is not on the list; ``details`` has its name.
        InvalidSource: no such network in it, or damaged.
        UnsupportedOption: inputs that the network does not take.
        MissingDependency: Ultralytics is not installed.
    """
    if find_spec("ultralytics") is None:
        raise MissingDependency("An Ultralytics checkpoint needs ultralytics: pip install ultralytics.")
    try:
        checkpoint, model = _read(path)
        task, module = _prepare(model)
        spec, names = _input(options, checkpoint, model, task), _names(model)
        exported = _as_exported(module, spec)
        before, after = _processing(task, spec, model, names)
    except (InvalidSource, UnsafeCheckpoint, UnsupportedOption):
        raise
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"The Ultralytics checkpoint cannot be used: {type(exc).__name__}: {str(exc).strip()[:200]}. It "
            "may be damaged, or of a newer Ultralytics than is installed here."
        ) from exc
    source = eager.load("ultralytics", eager.Network(exported, (spec,), classes=names))
    return replace(source, preprocessing=before, postprocessing=after)


def _table(text: str) -> Iterator[tuple[str, str]]:
    for line in text.strip().splitlines():
        module, *names = line.split()
        yield from ((module, name) for name in names)


class _StandIn:
    """Takes every argument and every state, and does nothing with them."""

    stands_for: tuple[str, str] = ("", "")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and all(type(name) is str for name in state):
            self.__dict__.update(state)


def _read(path: Path) -> tuple[dict[str, Any], Any]:
    """The checkpoint, and the network in it: the averaged one where there is one."""
    import pickle

    import torch

    allowed = {}
    for module, name in (*_table(_LAYERS), *_table(_BYSTANDERS)):
        allowed[f"{module}.{name}"] = type(name, (_StandIn,), {"stands_for": (module, name)})
    try:
        with torch.serialization.safe_globals([(cls, name) for name, cls in allowed.items()]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        refused = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - set(allowed))
        what = refused[0] if refused else "an instruction that is not needed to store a network"
        raise UnsafeCheckpoint(
            f"The Ultralytics checkpoint contains {what[:120]}, which is refused: loading it could run code. "
            "Networks of the layers that Ultralytics' own models have are loaded; export any other with "
            "torch.export.save.",
            refused=what[:120],
        ) from exc
    if not isinstance(checkpoint, dict):
        raise InvalidSource("The file is no Ultralytics checkpoint: it holds no dictionary.")
    model = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(model, _StandIn) or model.stands_for[0] != "ultralytics.nn.tasks":
        raise InvalidSource(
            "The Ultralytics checkpoint holds no network. Save it with YOLO(...).save('model.pt')."
        )
    return checkpoint, model


def _prepare(model: Any) -> tuple[str, Any]:
    """The stand-ins turned, in place, into what they stand for; fused, float32, on the CPU."""
    from ..formats.torch_graph import quiet

    task = _TASKS.get(model.stands_for[1])
    if task is None:
        raise InvalidSource(f"A {model.stands_for[1]} is not exported; {', '.join(_TASKS.values())} are.")
    layers = set(_table(_LAYERS))
    for part in list(_stand_ins(model)):
        if part.stands_for not in layers:
            continue
        cls = getattr(import_module(part.stands_for[0]), part.stands_for[1])
        state = dict(part.__dict__)
        _check_state(cls, state)
        part.__dict__.clear()
        part.__class__ = cls
        part.__setstate__(state)
    model.__dict__.pop("criterion", None)
    with quiet():
        return task, model.float().eval().fuse(verbose=False)


def _stand_ins(value: Any) -> Iterator[Any]:
    seen: set[int] = set()
    todo = [value]
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, _StandIn):
            yield current
            todo += current.__dict__.values()
        elif isinstance(current, dict):
            todo += current.values()
        elif isinstance(current, (list, tuple, set)):
            todo += current


def _check_state(cls: type, state: Mapping[str, Any]) -> None:
    """An attribute of an instance hides a method of its class, and a hook is called with every input."""
    for name, value in state.items():
        plain = isinstance(
            value, (str, int, float, type(None))
        )  # Ultralytics calls a layer's kind its ``type``
        hides = inspect.isroutine(inspect.getattr_static(cls, name, None)) and not plain
        if hides or name.startswith("__") or (name.endswith(("_hooks", "_hooks_with_kwargs")) and value):
            raise UnsafeCheckpoint(
                f"The Ultralytics checkpoint replaces {cls.__name__}.{name[:60]}, which is refused: it could "
                "run code.",
                refused=f"{cls.__name__}.{name[:60]}",
            )


def _input(options: Mapping[str, Any], checkpoint: Mapping[str, Any], model: Any, task: str) -> TensorSpec:
    if options.get("inputs") is not None:
        spec = inputs.parse(options["inputs"], ["images"], "An Ultralytics checkpoint")[0]
        step = 1 if task == "classify" else _stride(model)
        fits = len(spec.shape) == 4 and spec.shape[1] == 3 and spec.dtype == "float32"
        if not fits or not all(isinstance(side, int) and side % step == 0 for side in spec.shape[2:]):
            raise UnsupportedOption(
                "A network of Ultralytics takes float32 images of the shape [batch, 3, height, width], where "
                f"height and width are multiples of {step}, not names: its grid is made for one size. Send "
                f"{_EXAMPLE}.",
                allowed=_EXAMPLE,
                option="inputs",
            )
        return spec
    trained = checkpoint.get("train_args") or getattr(model, "args", None) or {}
    if isinstance(trained, _StandIn):  # a namespace
        trained = trained.__dict__
    if not isinstance(trained, dict):
        raise InvalidSource("The checkpoint's train_args are no dictionary. Save it with YOLO(...).save().")
    size = trained.get("imgsz") or (224 if task == "classify" else 640)
    height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size, size)
    if not all(type(side) is int and 1 <= side <= 8192 for side in (height, width)):
        raise InvalidSource(
            f"The checkpoint was trained with the image size {str(size)[:60]}, which makes no sense."
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
    """Stands for the shape of which a head made its grid: equal to every shape of a batch of such images."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _as_exported(model: Any, spec: TensorSpec) -> Any:
    """A module that answers with ``output0``, ``output1`` …

    The head keeps the grid that it makes for the size of the image at its first call, as Ultralytics exports
    it.
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
    """What Ultralytics' predictor does around the network, as ``processing.declared`` puts it."""
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
