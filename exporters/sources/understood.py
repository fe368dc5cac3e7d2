"""Check that a file is nothing but data, by the kind of file.

Only ``scan`` uses this. A file is called safe only after every part of it was read as data of its kind. "No
pickle was found" is not sufficient: a program, a script or an archive behind a pickle has none either.
"""

import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..errors import ExportError
from .boosters import check_lightgbm, check_xgboost, is_lightgbm, is_xgboost
from .compressed import compression
from .contents import looks_like_onnx, looks_like_pickle

# The first bytes of files that an operating system executes.
_PROGRAMS = {
    b"\x7fELF": "a program (ELF)",
    b"MZ": "a program (PE)",
    b"\xfe\xed\xfa": "a program (Mach-O)",
    b"\xcf\xfa\xed\xfe": "a program (Mach-O)",
    b"\xca\xfe\xba\xbe": "a program (Mach-O, or Java)",
    b"#!": "a script",
}
_READ_BYTES = 256 << 20
_NPY_HEADER_BYTES = 1 << 16
_NPY_TYPE = re.compile(r"'descr': ?'[<>|=][biufcSU]\d+'")
_SAFETENSORS_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
_LAMBDA = re.compile(rb'"class_name"\s*:\s*"(?:[\w>.]*>)?Lambda"')
# torch.save and torch.jit.save write these beside the pickles; torch reads them as bytes or numbers.
_TORCH_PART = re.compile(
    r"data/\d+|tensors/\d+|constants/\d+|version|byteorder"
    r"|\.data/serialization_id|\.format_version|\.storage_alignment"
)


def kind_of(path: Path) -> str | None:
    """Return the kind of checkpoint, by its first bytes and names; None if it is no checkpoint."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    if looks_like_pickle(head):
        return "pickle"
    if program := next((name for magic, name in _PROGRAMS.items() if head.startswith(magic)), None):
        return program
    if zipfile.is_zipfile(path):
        return _archive_kind(path)
    if is_xgboost(head):
        return "xgboost"
    if is_lightgbm(head):
        return "lightgbm"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _READ_BYTES:
        return "safetensors"
    if head[:6] == b"\x93NUMPY":
        return "numpy"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if head[257:262] == b"ustar":
        return "tar"
    if looks_like_onnx(head):
        return "onnx"
    if head.lstrip()[:1] in (b"{", b"["):
        return "json"
    packed = compression(head)
    return f"pickle, compressed with {packed}" if packed else None


def _archive_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip, damaged"
    names = {name.rpartition("/")[2] for name in members}
    for part, kind in (
        ("schema.json", "skops"),
        ("archive_format", "pt2"),
        ("constants.pkl", "torchscript"),
        ("data.pkl", "torch"),
        ("model.weights.h5", "keras"),
    ):
        if part in names:
            return kind
    return "npz" if members and all(name.endswith(".npy") for name in members) else "zip"


class NotUnderstood(Exception):
    """The reason why a file cannot be called data. ``harmful``: it is known to hold code that runs."""

    def __init__(self, reason: str, harmful: bool = False) -> None:
        super().__init__(reason)
        self.harmful = harmful


def require(path: Path, kind: str | None) -> None:
    """Check that everything in the file except its pickles, which the scanners read, is data.

    Raises:
        NotUnderstood.
    """
    if kind in _PROGRAMS.values():
        raise NotUnderstood(f"It is {kind}, not a model.", harmful=True)
    if kind is not None and kind.startswith("pickle"):
        if zipfile.is_zipfile(path):
            raise NotUnderstood(
                "An archive follows the pickle, so programs can differ on which of the two they read."
            )
        return
    check = _CHECKS.get(kind or "")
    if check is None:
        raise NotUnderstood(
            f"Files of the kind {kind} are not read." if kind else "The kind of file is not known."
        )
    try:
        check(path)
    except NotUnderstood:
        raise
    except ExportError as exc:
        raise NotUnderstood(f"The check for its kind of file rejects it: {str(exc)[:200]}") from exc
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise NotUnderstood(f"It is not a complete file of the kind {kind}.") from exc


def _whole(path: Path) -> bytes:
    if path.stat().st_size > _READ_BYTES:
        raise NotUnderstood(f"It is larger than {_READ_BYTES:,} bytes, and was not read to its end.")
    return path.read_bytes()


def _json(path: Path) -> None:
    json.loads(_whole(path))


def _xgboost(path: Path) -> None:
    check_xgboost(_whole(path))


def _lightgbm(path: Path) -> None:
    check_lightgbm(_whole(path).replace(b"\r\n", b"\n").decode())


def _numpy(path: Path) -> None:
    with path.open("rb") as file:
        _require_npy(file)


def _require_npy(file: IO[bytes]) -> None:
    head = file.read(_NPY_HEADER_BYTES)
    length = int.from_bytes(head[8:10] if head[6] == 1 else head[8:12], "little")
    header = head[10 : 12 + length].decode("latin-1")
    if "fortran_order" not in header or not _NPY_TYPE.search(header):
        raise NotUnderstood(
            "An array of the file holds Python objects or records; only numbers and texts can be read."
        )


def _safetensors(path: Path) -> None:
    """Check like safetensors' own reader: the tensors are contiguous, and there is nothing else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    at = 0
    for entry in sorted(header.values(), key=lambda entry: entry["data_offsets"]):
        start, end = entry["data_offsets"]
        bits = _SAFETENSORS_BITS[entry["dtype"]]
        if start != at or (end - start) * 8 != math.prod(entry["shape"]) * bits:
            raise ValueError("offsets")
        at = end
    if 8 + length + at != size:
        raise ValueError("more than its tensors")


def _onnx(path: Path) -> None:
    from . import onnx_gate

    if path.stat().st_size > _READ_BYTES:
        raise NotUnderstood(f"It is larger than {_READ_BYTES:,} bytes, and was not read to its end.")
    onnx_gate.read(path)


def _hdf5(path: Path) -> None:
    with path.open("rb") as file:
        if _LAMBDA.search(file.read(_READ_BYTES)):
            raise NotUnderstood(
                "A Lambda layer of Keras contains code that runs when it is loaded.", harmful=True
            )
    raise NotUnderstood("Keras files are not read.")


def _keras(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json") if "config.json" in archive.namelist() else b""
    if _LAMBDA.search(config):
        raise NotUnderstood(
            "A Lambda layer of Keras contains code that runs when it is loaded.", harmful=True
        )
    raise NotUnderstood("Keras files are not read.")


def _torchscript(path: Path) -> None:
    raise NotUnderstood("TorchScript is a program. Its operators are checked when it is exported.")


def _torch(path: Path) -> None:
    with _one_archive(path) as archive:
        for name in archive.namelist():
            inside = name.partition("/")[2] or name
            if not (inside.endswith(".pkl") or _TORCH_PART.fullmatch(inside)):
                raise NotUnderstood(f"The part {name[:80]!r} is not of a known kind.")


def _npz(path: Path) -> None:
    with _one_archive(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as part:
                _require_npy(part)


def _skops(path: Path) -> None:
    from . import skops_gate

    with _one_archive(path) as archive:
        skops_gate.check(path)
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as part:
                    _require_npy(part)
            elif name != "schema.json" and not name.endswith((".npz", ".bin")):
                raise NotUnderstood(f"The part {name[:80]!r} is not of a known kind.")


def _pt2(path: Path) -> None:
    from . import pt2_gate

    with _one_archive(path) as archive:
        parts = {name.partition("/")[2]: name for name in archive.namelist()}
        pt2_gate.check_parts(parts, lambda name: archive.read(parts[name]))


def _one_archive(path: Path) -> zipfile.ZipFile:
    """Return the archive if it is the whole file: nothing before it, nothing after it, no name twice."""
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(-22, 2)
        last = file.read(4)
    if first != b"PK\x03\x04" or min(one.header_offset for one in members) or last != b"PK\x05\x06":
        raise NotUnderstood("There are bytes before or after the archive.")
    if len({one.filename.lower() for one in members}) != len(members):
        raise NotUnderstood("Two parts of the archive have the same name.")
    return archive


_CHECKS: dict[str, Callable[[Path], Any]] = {
    "json": _json,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "numpy": _numpy,
    "npz": _npz,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "hdf5": _hdf5,
    "keras": _keras,
    "torchscript": _torchscript,
    "torch": _torch,
    "skops": _skops,
    "pt2": _pt2,
}
