"""Read names and numbers of a checkpoint before any object of it is loaded."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import InvalidSource

# torch.save before 1.6 wrote three small pickles, the first of which is this number, then the object.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 4
# The pickle of a checkpoint only names its tensors; their numbers are stored beside it in the archive.
_PICKLE_LIMIT_BYTES = 64 << 20
_HEAD_BYTES = 4096
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}


@dataclass(frozen=True)
class Contents:
    """``members``: those of an archive without its single root folder, or the names of a folder's files.

    ``pickled``: the names that a pickle, or torch.save's archive of one, imports, as ``module.name``; None
    for other files. They are read from its opcodes to find out the file's declared kind. A crafted pickle can
    hide names from this, so the result is no proof of safety.
    """

    path: Path
    head: bytes = b""
    is_folder: bool = False
    is_archive: bool = False
    members: frozenset[str] = frozenset()
    pickled: frozenset[str] | None = None


def read(path: Path) -> Contents:
    """Read a path. Raises InvalidSource if it is missing or empty, or an archive that cannot be read."""
    if path.is_dir():
        return Contents(path, is_folder=True, members=frozenset(item.name for item in path.iterdir()))
    if not path.is_file():
        raise InvalidSource(f"There is no file {path.name}.")
    if path.stat().st_size == 0:
        raise InvalidSource("The model file is empty, or its end was never written. Save it again.")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if not zipfile.is_zipfile(path):
            file.seek(0)
            return Contents(path, head, pickled=_globals(file) if looks_like_pickle(head) else None)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name: name for name in archive.namelist()}
            pickled = None
            if "data.pkl" in names:
                with archive.open(names["data.pkl"]) as data:
                    pickled = _globals(io.BytesIO(data.read(_PICKLE_LIMIT_BYTES)))
    except (NotImplementedError, RuntimeError) as exc:
        raise InvalidSource(
            f"The archive of the model file is not supported: {exc}. Write it without encryption, "
            "stored or deflated."
        ) from exc
    except (zipfile.BadZipFile, OSError, ValueError) as exc:
        raise InvalidSource("The archive of the model file is damaged. Upload it again.") from exc
    return Contents(path, head, is_archive=True, members=frozenset(names), pickled=pickled)


def looks_like_pickle(head: bytes) -> bool:
    """Recognise a pickle: protocol 2 and later by the first bytes, older ones by parsing four opcodes."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if head[:1] not in (b"(", b"c", b"]", b"}"):
        return False
    try:
        return sum(1 for _ in zip(range(4), pickletools.genops(head), strict=False)) == 4
    except ValueError:
        return False


def looks_like_onnx(head: bytes) -> bool:
    """Recognise the protobuf: field 1, the format's version (below 32), then another of its fields."""
    return (
        len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 32 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"
    )


def _globals(file: IO[bytes]) -> frozenset[str]:
    found: set[str] = set()
    try:
        legacy = False
        for number in range(_LEGACY_PICKLES):
            if number and not legacy:
                break
            strings = ["", ""]
            for name, argument in _opcodes(file):
                if name in ("GLOBAL", "INST"):
                    found.add(str(argument).replace(" ", ".", 1))
                elif name == "STACK_GLOBAL":
                    found.add(".".join(strings[-2:]))
                elif name in _STRINGS:
                    strings = [strings[-1], str(argument)]
                elif number == 0 and argument == _LEGACY_MAGIC:
                    legacy = True
    except ValueError:
        pass  # truncated, or raw numbers behind the pickle: the names read so far are the declared ones
    return frozenset(found)


def _opcodes(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    for opcode, argument, _ in pickletools.genops(file):
        yield opcode.name, argument
