"""Load a checkpoint: the only gate for untrusted files.

The content of a file decides its kind: ``.pt`` may be TorchScript, an exported program, weights or any
pickle.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..base import ESTIMATOR, FAMILIES, Source
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from ..request import Trust
from . import boosters, compressed, contents
from .advice import SAVE_AS_PROGRAM
from .contents import Contents

# Names that a state dict may import, and pickled networks exceed; the loader itself is stricter.
OF_WEIGHTS = re.compile(
    r"torch\.\w+|torch\.(_utils|_tensor|storage|serialization|cuda|nn\.parameter)\.\w+"
    r"|collections\.(OrderedDict|Counter)|builtins\.(set|bytearray|complex)|_codecs\.encode|argparse\.Namespace"
)


@dataclass(frozen=True)
class _Kind:
    """``module`` of this package has ``load(path, options, trust)``. It is imported on first use."""

    name: str  # of base.FAMILIES
    recognise: Callable[[Contents], bool]
    module: str


def _is_pt2(found: Contents) -> bool:
    return "archive_format" in found.members and any(name.startswith("models/") for name in found.members)


def _is_torchscript(found: Contents) -> bool:
    return "constants.pkl" in found.members and any(name.startswith("code/") for name in found.members)


def _is_huggingface(found: Contents) -> bool:
    return found.is_folder and "config.json" in found.members


def _is_onnx(found: Contents) -> bool:
    if found.is_folder:
        return any(name.endswith(".onnx") for name in found.members)
    return contents.looks_like_onnx(found.head)


def _is_ultralytics(found: Contents) -> bool:
    return any(name.startswith("ultralytics.nn.tasks.") for name in found.pickled or ())


def _is_network(found: Contents) -> bool:
    """Recognise objects of torch that are more than weights. Called after the more specific kinds."""
    return any(name.startswith("torch.") for name in found.pickled or ())


def _is_estimator(framework: str) -> Callable[[Contents], bool]:
    """Recognise the library's own file, a skops archive, or a pickle (scikit-learn's by default)."""

    def recognise(found: Contents) -> bool:
        if framework == "xgboost" and boosters.is_xgboost(found.head):
            return True
        if framework == "lightgbm" and boosters.is_lightgbm(found.head):
            return True
        if found.is_archive or found.is_folder:
            return framework == "sklearn" and "schema.json" in found.members
        if found.pickled is None:
            return framework == "sklearn" and compressed.compression(found.head) is not None
        if any(name.startswith("torch.") for name in found.pickled):
            return False
        return framework == "sklearn" or any(name.startswith(f"{framework}.") for name in found.pickled)

    return recognise


def _is_state_dict(found: Contents) -> bool:
    if found.pickled is not None:
        return any(name.startswith("torch.") for name in found.pickled) and all(
            OF_WEIGHTS.fullmatch(name) for name in found.pickled
        )
    # safetensors: the length of a JSON header, little-endian in 8 bytes, and the header.
    size = int.from_bytes(found.head[:8], "little")
    return not found.is_archive and found.head[8:9] == b"{" and 0 < size <= 100_000_000


# The first kind in this order that recognises a file is chosen.
_KINDS = (
    _Kind("pt2", _is_pt2, "pt2"),
    _Kind("torchscript", _is_torchscript, "torchscript"),
    _Kind("huggingface", _is_huggingface, "huggingface"),
    _Kind("onnx", _is_onnx, "onnx_file"),
    _Kind("state_dict", _is_state_dict, "state_dict"),
    _Kind("ultralytics", _is_ultralytics, "ultralytics"),
    _Kind("torch_pickle", _is_network, "torch_pickle"),
    _Kind("xgboost", _is_estimator("xgboost"), "estimators"),
    _Kind("lightgbm", _is_estimator("lightgbm"), "estimators"),
    _Kind("sklearn", _is_estimator("sklearn"), "estimators"),
)


def detect(path: Path) -> str:
    """Return the file's family, one of ``base.FAMILIES``. Reads names and headers only, and loads no object.

    Raises:
        InvalidSource: no kind of model that is known here, or a damaged file.
        UnsafeCheckpoint: a pickle, with or without an archive around it.
    """
    return _kind(contents.read(path)).name


def load(path: Path, options: Mapping[str, Any], trust: Trust = Trust()) -> Source:  # noqa: B008 - frozen
    """Check and load the model in ``path``, a file or a folder.

    Raises:
        InvalidSource, UnsafeCheckpoint: as ``detect``, and those of the loader.
        UnsupportedOption: an option that this kind of source does not have.
    """
    import torch

    kind = _kind(contents.read(path))
    if options.get("float64") and FAMILIES[kind.name] != ESTIMATOR:
        raise UnsupportedOption(
            "The option float64 is only for estimators of scikit-learn, XGBoost and LightGBM: the "
            "inputs of a network have the dtypes that it was saved with. Remove it.",
            allowed=[False],
            option="float64",
        )
    # More threads add in another order, which would change the last bits of the golden outputs.
    torch.set_num_threads(1)
    source: Source = import_module(f".{kind.module}", __name__).load(path, options, trust)
    return source


def _kind(found: Contents) -> _Kind:
    for kind in _KINDS:
        if kind.recognise(found):
            return kind
    raise _unknown(found)


def _unknown(found: Contents) -> InvalidSource | UnsafeCheckpoint:
    if found.is_folder:
        return InvalidSource(
            "The folder has no config.json, so it is not a Hugging Face model. Upload the config.json too."
        )
    if found.pickled is not None:
        return UnsafeCheckpoint(
            "The file is a Python pickle of objects: loading it would run code in it. Save only "
            "the weights (torch.save(model.state_dict(), path)) and name their architecture. Or: "
            f"{SAVE_AS_PROGRAM}"
        )
    if found.is_archive:
        return InvalidSource(f"The file is an archive, but not a supported kind of model. {SAVE_AS_PROGRAM}")
    return InvalidSource(
        "The file is not a supported kind of model (an exported program, TorchScript, weights, "
        f"ONNX, an estimator or a Hugging Face folder), or it was cut short. {SAVE_AS_PROGRAM}"
    )
