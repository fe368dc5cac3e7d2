"""Reads the zip of an export package and writes another one. Files are streamed, never held in memory."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..package import FIDELITY, FORMAT_VERSION, MANIFEST, METADATA, README
from .errors import DeliveryError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_CHUNK_BYTES = 1 << 20
_MODE, _MODE_PROGRAM = 0o644, 0o755
# What deliveries read of these files, in packages of every release.
_FIELDS = {
    METADATA: (
        *("model_info", "input_specs", "output_spec", "artefact", "batch", "dynamic_axes", "example_shapes"),
        *("preprocessing", "postprocessing", "classes"),
    ),
    FIDELITY: ("verdict",),
    MANIFEST: ("files",),
}


class Package:
    """An export package. ``digests``: path → sha256, of every file but the manifest."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.metadata: dict[str, Any] = self._json(METADATA)
        self.fidelity: dict[str, Any] = self._json(FIDELITY)
        self.digests: dict[str, str] = {
            name: entry["sha256"] for name, entry in self._json(MANIFEST)["files"].items()
        }
        present = set(archive.namelist())
        if missing := sorted(set(self.digests) - present):
            raise DeliveryError(f"{missing[0]} is missing from the package. Export the model again.")

    @property
    def format(self) -> str:
        return str(self.metadata["model_info"]["export_format"])

    @property
    def wrappers(self) -> Mapping[str, str]:
        """Language → path of its wrapper."""
        found: Mapping[str, str] = self.metadata.get("runtime_wrappers") or {}
        return found

    @property
    def executed(self) -> bool:
        return bool(self.fidelity["verdict"] != "converted_not_executed")

    @property
    def artefact(self) -> list[str]:
        return list(self.metadata["artefact"]["files"])

    @property
    def sizes(self) -> dict[str, int]:
        """Path of each file of the artefact → bytes."""
        return {name: self._archive.getinfo(name).file_size for name in self.artefact}

    def open(self, name: str) -> IO[bytes]:
        return self._archive.open(name)

    def size(self, name: str) -> int:
        return self._archive.getinfo(name).file_size

    def __contains__(self, name: str) -> bool:
        return name in self.digests

    def outside_runtimes(self) -> list[str]:
        """Return what every language needs: the artefact, its descriptions and golden data."""
        return sorted(name for name in self.digests if not name.startswith("runtimes/") and name != README)

    def runtime(self, language: str) -> list[str]:
        return sorted(name for name in self.digests if name.startswith(f"runtimes/{language}/"))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._archive.read(name))
            absent = [field for field in _FIELDS[name] if field not in found]
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as exc:
            raise DeliveryError(
                f"The package's {name} is missing or damaged. Export the model again."
            ) from exc
        if absent:
            raise DeliveryError(f"The package's {name} has no {absent[0]}. Export the model again.")
        return found


@contextmanager
def opened(path: Path) -> Iterator[Package]:
    """Open a package. Raises DeliveryError: it is no package, or the export failed its comparison."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as exc:
        raise DeliveryError("The package is not a readable zip archive. Export the model again.") from exc
    with archive:
        package = Package(archive)
        if package.fidelity.get("verdict") == "failed":
            raise DeliveryError("A failed export is not delivered: it does not behave like its source model.")
        yield package


class Writer:
    """Writes a zip whose last file is a manifest of the others. Equal contents give equal bytes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._files: dict[str, dict[str, Any]] = {}

    def text(self, name: str, text: str, *, program: bool = False) -> None:
        data = text.encode()
        with self._member(
            name, len(data), zipfile.ZIP_DEFLATED, _MODE_PROGRAM if program else _MODE
        ) as member:
            member.write(data)

    def json(self, name: str, document: Any) -> None:
        self.text(name, json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def copy(self, package: Package, name: str, target: str | None = None) -> None:
        """Copy a file of a package, whose digest must be that of its manifest. Raises DeliveryError."""
        target = target or name
        with package.open(name) as source, self._member(target, package.size(name)) as member:
            shutil.copyfileobj(source, member, _CHUNK_BYTES)
        if self._files[target]["sha256"] != package.digests[name]:
            raise DeliveryError(f"{name} does not match the package's manifest. Export the model again.")

    @contextmanager
    def stream(self, name: str) -> Iterator["_Counted"]:
        """Write a file whose size is not known before."""
        with self._member(name, 1 << 33, zipfile.ZIP_DEFLATED) as member:
            yield member

    def finish(self) -> None:
        files = dict(sorted(self._files.items()))
        self.json(MANIFEST, {"format_version": FORMAT_VERSION, "files": files})

    @contextmanager
    def _member(
        self, name: str, size: int, compression: int = zipfile.ZIP_STORED, mode: int = _MODE
    ) -> Iterator["_Counted"]:
        info = zipfile.ZipInfo(name, _EPOCH)
        info.external_attr = mode << 16
        info.create_system = 3
        info.compress_type = compression
        info.file_size = size  # from this, zipfile determines whether it needs zip64
        with self._archive.open(info, "w") as file:
            counted = _Counted(file)
            yield counted
        self._files[name] = {"sha256": counted.digest.hexdigest(), "size_bytes": counted.size_bytes}


class _Counted:
    """A file that counts and hashes what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)


@contextmanager
def written(path: Path) -> Iterator[Writer]:
    """Write a zip at ``path``. On an error, nothing is left there."""
    try:
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            writer = Writer(archive)
            yield writer
            writer.finish()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
