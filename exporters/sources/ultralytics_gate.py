"""Read an Ultralytics checkpoint and rebuild its network without a call that the file chooses.

torch's restricted unpickler reads it, with an inert stand-in for every allowed class: no code of Ultralytics
or torch.nn is called while the file is read. (torch calls any class that is declared safe with the file's own
arguments, and a constructor of Ultralytics evaluates text in them.) Only then are the stand-ins converted to
the real layers.
"""

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, UnsafeCheckpoint
from .advice import SAVE_AS_PROGRAM

# One module per line, then the classes in it that a network may consist of.
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
# Objects that a training run leaves beside the network; read, but never created.
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


def _table(text: str) -> Iterator[tuple[str, str]]:
    for line in text.strip().splitlines():
        module, *names = line.split()
        yield from ((module, name) for name in names)


class StandIn:
    """Accepts every argument and every state, and does nothing with them."""

    stands_for: tuple[str, str] = ("", "")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and all(type(name) is str for name in state):
            self.__dict__.update(state)


def read(path: Path) -> tuple[dict[str, Any], Any]:
    """Return the checkpoint and its network of stand-ins; the averaged network if there is one.

    Raises:
        UnsafeCheckpoint: it names a class that is not allowed; ``details`` has the name.
        InvalidSource: it holds no network of Ultralytics.
    """
    import pickle

    import torch

    allowed = {}
    for module, name in (*_table(_LAYERS), *_table(_BYSTANDERS)):
        allowed[f"{module}.{name}"] = type(name, (StandIn,), {"stands_for": (module, name)})
    try:
        with torch.serialization.safe_globals([(cls, name) for name, cls in allowed.items()]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        refused = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - set(allowed))
        what = refused[0] if refused else "an instruction that storing a network does not need"
        raise UnsafeCheckpoint(
            f"The Ultralytics checkpoint contains {what[:120]}, which is refused: loading it could "
            "run code. Only networks with the layers of Ultralytics' own models can be loaded. "
            f"{SAVE_AS_PROGRAM}",
            refused=what[:120],
        ) from exc
    if not isinstance(checkpoint, dict):
        raise InvalidSource("The file is not an Ultralytics checkpoint: it contains no dictionary.")
    model = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(model, StandIn) or model.stands_for[0] != "ultralytics.nn.tasks":
        raise InvalidSource(
            "The Ultralytics checkpoint contains no network. Save it with YOLO(...).save('model.pt')."
        )
    return checkpoint, model


def revive(model: Any) -> None:
    """Convert the stand-ins, in place, to the classes that they stand for.

    Raises:
        UnsafeCheckpoint: a state that would be called as code.
    """
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


def _stand_ins(value: Any) -> Iterator[Any]:
    seen: set[int] = set()
    todo = [value]
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, StandIn):
            yield current
            todo += current.__dict__.values()
        elif isinstance(current, dict):
            todo += current.values()
        elif isinstance(current, (list, tuple, set)):
            todo += current


def _check_state(cls: type, state: Mapping[str, Any]) -> None:
    """Refuse attributes that hide a method of the class, and hooks, which are called with every input."""
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
