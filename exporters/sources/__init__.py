"""Load a checkpoint: the only gate for untrusted files.

What a file is, is decided by its content: ``.pt`` may be TorchScript, an exported program or a pickle.
"""

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import Source, Trust
from ..errors import InvalidSource, UnsafeCheckpoint

PT2 = "pt2"
TORCHSCRIPT = "torchscript"

_ADVICE = (
    'Save it again with: batch = torch.export.Dim("batch"); torch.export.save(torch.export.export('
    'model.eval(), (example,), dynamic_shapes=({0: batch},)), "model.pt2"), where example is an input with a '
    "batch of 2."
)


def detect(path: Path) -> str:
    """``pt2`` or ``torchscript``; reads the directory of the archive, never a pickle.

    Raises:
        InvalidSource: no model that is understood here, or a damaged one.
        UnsafeCheckpoint: a pickle, with or without an archive around it.
    """
    if not path.is_file():
        raise InvalidSource(f"There is no file {path.name}.")
    if path.stat().st_size == 0:
        raise InvalidSource(
            "The model file is empty: nothing was ever written into it, or not to the end. Save it again."
        )
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(4096)
        if _looks_like_pickle(head):
            raise UnsafeCheckpoint(f"The file is a Python pickle: loading it would run code in it. {_ADVICE}")
        raise InvalidSource(
            f"The file is neither an exported program (.pt2) nor TorchScript, or it was cut short. {_ADVICE}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as exc:
        raise InvalidSource("The model file is damaged: its archive cannot be read. Save it again.") from exc
    if "archive_format" in names and any(name.startswith("models/") for name in names):
        return PT2
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    if "data.pkl" in names:
        raise UnsafeCheckpoint(
            "The file was written by torch.save: it is a pickle of Python objects, or only the weights "
            f"without the network. {_ADVICE}"
        )
    raise InvalidSource(f"The file is an archive, but not of a model that is understood here. {_ADVICE}")


def load(path: Path, options: Mapping[str, Any], trust: Trust = Trust()) -> Source:  # noqa: B008 - frozen
    """The model in ``path``, checked and loaded.

    Raises:
        InvalidSource, UnsafeCheckpoint: as ``detect``, and for what the loader itself refuses.
        UnsupportedOption: an option that this kind of source cannot follow.
    """
    import torch

    kind = detect(path)
    # More threads add up in another order, and the golden outputs would differ in their last bits.
    torch.set_num_threads(1)
    if kind == PT2:
        from . import pt2

        return pt2.load(path, options)
    from . import torchscript

    return torchscript.load(path, options)


def _looks_like_pickle(head: bytes) -> bool:
    """Protocol 2 and later say so in their first byte; an older one is text opcodes that parse one by one."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if head[:1] not in (b"(", b"c", b"]", b"}"):
        return False
    try:
        return sum(1 for _ in zip(range(4), pickletools.genops(head), strict=False)) == 4
    except ValueError:
        return False
