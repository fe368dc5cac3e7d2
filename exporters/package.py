"""The export package, which an export creates, a deployment serves, and a user downloads.

    <package>/
    ├── model.onnx               the artefact; beyond 2 GB its weights are in model.onnx.data
    ├── metadata.json            inputs, outputs, and the processing before and after
    ├── fidelity.json            the artefact compared with its source model, and the verdict
    ├── validation_results.json  metrics of the artefact and its source on a dataset, if one was named
    ├── optimization_table.json  the recipes that "optimize": "auto" measured, and why one was chosen
    ├── validation_inputs.npz    input:NAME, the inputs of that dataset whose predictions changed most
    ├── golden.npz               input:NAME and output:NAME arrays; the outputs are the source model's
    ├── labels.txt               the names of the classes, if there are any, one per line
    ├── tokenizer.json …         files of the checkpoint that users of the model need
    ├── vectorizer.json          the terms that are counted in texts, or in a table's columns of texts
    ├── README.md
    ├── runtimes/LANGUAGE/       for every language that has a wrapper for the format
    └── manifest.json            the sha256 and size of every other file, and this layout's version

Equal inputs give equal bytes, except for measurements: ``performance`` in metadata.json,
optimization_table.json, and the entries of these files in the manifest.
This module needs the standard library only.
"""

import hashlib
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import PackageCorrupt

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
METADATA = "metadata.json"
FIDELITY = "fidelity.json"
VALIDATION = "validation_results.json"
VALIDATION_INPUTS = "validation_inputs.npz"
OPTIMIZATION_TABLE = "optimization_table.json"
_MODE = 0o644
GOLDEN = "golden.npz"
VECTORIZER = "vectorizer.json"
README = "README.md"

_TEXT = {".cpp", ".gradle", ".h", ".json", ".kt", ".md", ".py", ".swift", ".txt"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_CHUNK_BYTES = 1 << 20
_MAX_FILES = 10_000
DEFAULT_LIMIT_BYTES = 64_000_000_000


@dataclass(frozen=True)
class Entry:
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """``files``: path with forward slashes → digest and size, without the manifest itself."""

    format_version: int
    files: Mapping[str, Entry]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())


def write_json(path: Path, document: Any) -> None:
    """Write a package's JSON: equal documents are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def write_manifest(folder: Path) -> Manifest:
    """Write the manifest of the folder, as its last file. All files get the mode 0644."""
    for name in _files(folder):
        (folder / name).chmod(_MODE)
    files = {name: _entry(folder / name) for name in _files(folder) if name != MANIFEST}
    write_json(
        folder / MANIFEST,
        {
            "format_version": FORMAT_VERSION,
            "files": {
                name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes}
                for name, entry in sorted(files.items())
            },
        },
    )
    (folder / MANIFEST).chmod(_MODE)
    return Manifest(FORMAT_VERSION, files)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest. Raises PackageCorrupt if it is missing, invalid, or of a newer layout."""
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        version = document["format_version"]
        files = {
            name: Entry(entry["sha256"], entry["size_bytes"]) for name, entry in document["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise PackageCorrupt(
            f"The package's {MANIFEST} is missing or damaged: download the package again.", file=MANIFEST
        ) from exc
    if version != FORMAT_VERSION:
        raise PackageCorrupt(
            f"The package has the layout {version}, but this software only supports {FORMAT_VERSION}. "
            "Update this software.",
            file=MANIFEST,
        )
    return Manifest(version, files)


def verify(folder: Path) -> Manifest:
    """Check that every file is present and unchanged, and that there is no other.

    Raises:
        PackageCorrupt: the check fails; ``details.file`` names the first wrong file.
    """
    manifest = read_manifest(folder)
    present = _files(folder) - {MANIFEST}
    for name in sorted(set(manifest.files) | present):
        if name not in present:
            raise PackageCorrupt(f"{name} is missing from the package.", file=name)
        if name not in manifest.files:
            raise PackageCorrupt(f"{name} is not in the package's manifest.", file=name)
        if _entry(folder / name) != manifest.files[name]:
            raise PackageCorrupt(
                f"{name} does not match the package's manifest: it was changed or cut short.", file=name
            )
    return manifest


def pack(folder: Path, zip_path: Path) -> None:
    """Write a zip. Equal folders give equal archives: sorted, no times, no modes. Only text is compressed."""
    with zipfile.ZipFile(zip_path, "w", allowZip64=True) as archive:
        for name in sorted(_files(folder)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = _MODE << 16
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix in _TEXT else zipfile.ZIP_STORED
            # From this, zipfile determines whether it needs zip64
            info.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)


def unpack(zip_path: Path, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
    """Extract an untrusted package into ``folder``, which must not exist. On an error nothing is left.

    Raises:
        PackageCorrupt: no archive, a name that leaves the folder, a link, or more than ``limit_bytes``.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_FILES:
                raise PackageCorrupt(f"The package has more than {_MAX_FILES:,} files.", file=zip_path.name)
            left = limit_bytes
            for member in members:
                left -= _extract(archive, member, folder, left, limit_bytes)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        FileExistsError,
    ) as exc:
        shutil.rmtree(folder)
        raise PackageCorrupt("The package is not a readable zip archive.", file=zip_path.name) from exc
    except BaseException:
        shutil.rmtree(folder)
        raise


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, left: int, limit: int) -> int:
    name = PurePosixPath(member.filename)
    unsafe = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    if unsafe or not name.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PackageCorrupt(
            f"The package contains {member.filename[:80]!r}, which is refused.", file=member.filename[:80]
        )
    target = folder.joinpath(*name.parts)
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(member) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):  # an archive may declare wrong sizes
            written += len(chunk)
            if written > left:
                raise PackageCorrupt(
                    f"The package unpacks to more than {limit:,} bytes.", file=member.filename[:80]
                )
            file.write(chunk)
    return written


def _files(folder: Path) -> set[str]:
    """Return the files of a package. Raises PackageCorrupt for a link or a device."""
    found = set()
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise PackageCorrupt(f"{relative} is not a plain file.", file=relative)
            if name in names:
                found.add(relative)
    return found


def _entry(path: Path) -> Entry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(digest, path.stat().st_size)
