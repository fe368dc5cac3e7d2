"""The folder of exports on the local disk.

    <export_dir>/
    ├── <model_id>-<time>/        one export, which never changes
    │   ├── export.json           its metadata, and the sha256 of the manifest
    │   ├── package/              the export package: the model, golden.npz, manifest.json …
    │   └── source.pt2            the network, if it came from no training job
    ├── backups/<same name>/      copies of exports that were replaced
    └── .unfinished-…/            exports in progress; leftovers of killed processes are removed

An export is written to an unfinished folder, synced to the disk and renamed, so it is there as a whole or not
at all, also after a power failure.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from exporters import package as packages
from exporters.errors import PackageCorrupt
from model_service.model_deployment_service.durable import (
    UNFINISHED,
    copy_file,
    copy_tree,
    open_plain,
    publish,
    remove_abandoned,
    sha256_of,
    sync_folder,
    unfinished,
    write_file,
)
from model_service.model_deployment_service.errors import ModelDeploymentError, ModelValidationError
from model_service.model_deployment_service.records import ExportedModel, ModelExportMetadata

DESCRIPTION = "export.json"
PACKAGE = "package"
SOURCE = "source.pt2"
BACKUPS = "backups"
_FORMAT_VERSION = 1
AGAIN = "Export the model again, or deploy a backup."
_PLAIN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True)
class Export:
    """One export.

    Attributes:
        files: the names of the model's files in the package, the one to open first.
        model_name: in the registry.
        registered: whether ``metadata.model_id`` is the id of a version in the registry.
        source_sha256: of SOURCE; None: the registry has the source.
    """

    folder: Path
    metadata: ModelExportMetadata
    files: list[str]
    model_name: str
    registered: bool
    manifest_sha256: str
    source_sha256: str | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> str:
        """The file of the model, for ``ModelDeploymentConfig.model_export_path``."""
        return str(self.folder / PACKAGE / self.files[0])

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": _FORMAT_VERSION,
            "metadata": self.metadata.to_dict(),
            "files": self.files,
            "model_name": self.model_name,
            "registered": self.registered,
            "manifest_sha256": self.manifest_sha256,
            "source_sha256": self.source_sha256,
        }


class ExportFolder:
    def __init__(self, root: Path) -> None:
        self._given = root.expanduser().absolute()

    @property
    def root(self) -> Path:
        return self._given.resolve()

    def publish(
        self,
        metadata: ModelExportMetadata,
        files: Sequence[str],
        package: Path,
        source: Path | None,
        *,
        model_name: str,
    ) -> Export:
        """Copy an export into the folder, durably.

        Args:
            metadata: its size and checksum are set here.
            package: a folder that a converter wrote, which is not trusted.
            source: the network of an export without a training job.

        Raises:
            PackageCorrupt: the package is incomplete or has a link.
            OSError: the disk is full or not writable.
        """
        root = self.root
        root.mkdir(parents=True, exist_ok=True)
        remove_abandoned(root)
        with unfinished(root) as folder:
            copy_tree(package, folder / PACKAGE)
            if not set(files) <= set(packages.verify(folder / PACKAGE).files):
                raise PackageCorrupt("The package lacks a file of the model.")
            metadata.checksum, metadata.file_size_bytes = checksum_of(folder / PACKAGE, files)
            export = Export(
                root / _name_of(metadata),
                metadata,
                list(files),
                model_name,
                registered=source is None,
                manifest_sha256=sha256_of(folder / PACKAGE / packages.MANIFEST),
                source_sha256=copy_file(source, folder / SOURCE) if source is not None else None,
            )
            write_file(folder / DESCRIPTION, json.dumps(export.to_json(), indent=2, allow_nan=False).encode())
            publish(folder, export.folder)
        return export

    def of(self, metadata: ModelExportMetadata) -> Export:
        """Return the export of these metadata. Raises: ModelValidationError: it is missing or unreadable."""
        if not _PLAIN_ID.fullmatch(metadata.model_id):
            raise ModelValidationError(f"{metadata.model_id[:64]!r} is not the model_id of an export.")
        name = _name_of(metadata)
        for folder in (self.root / name, self.root / BACKUPS / name):
            if folder.exists():
                return _read(folder)
        raise ModelValidationError(
            f"There is no export {name} in {self.root}: list_exported_models shows those that are there."
        )

    def at(self, path: str) -> Export:
        """Return the export of a ``model_export_path``.

        Raises:
            ModelDeploymentError: the path is not that of an export in this folder, or leads through a link.
            ModelValidationError: the export is unreadable.
        """
        root = self.root
        parts = self._inside(path)
        folder = root.joinpath(*parts[: -2 if len(parts) > 2 else None])
        for number in range(len(parts)):
            part = root.joinpath(*parts[: number + 1])
            if part.is_symlink():
                raise ModelDeploymentError(f"{part} is a symbolic link, which is refused.")
        if not folder.is_dir():
            raise ModelDeploymentError(
                f"There is no export at {path}: use model_export_path of an entry of list_exported_models."
            )
        export = _read(folder)
        if root.joinpath(*parts) != Path(export.path):
            raise ModelDeploymentError(f"{path} is not the file of the model, which is {export.path}.")
        if not Path(export.path).is_file():
            raise ModelDeploymentError(f"{export.path} is missing. {AGAIN}")
        return export

    def entries(self) -> list[ExportedModel]:
        """Return an entry for everything in the folder, newest first, unreadable exports last."""
        root = self.root
        if not root.is_dir():
            return []
        found: list[ExportedModel] = []
        for path in root.iterdir():
            if path.name == BACKUPS or path.name.startswith(UNFINISHED):
                continue
            try:
                export = _read(path)
            except ModelValidationError as exc:
                found.append({"model_export_path": str(path), "problem": str(exc)})
            else:
                entry: dict[str, Any] = export.metadata.to_dict()
                found.append({**entry, "model_export_path": export.path, "problem": None})  # type: ignore[typeddict-item]
        return sorted(
            found,
            key=lambda entry: (entry.get("export_timestamp", ""), entry["model_export_path"]),
            reverse=True,
        )

    def back_up(self, export: Export) -> Export:
        """Copy an export to the backups, durably, and return the copy. A whole copy that is there stays.

        Raises:
            ModelValidationError: the export, or the copy that is there, is damaged.
            OSError: the disk is full or not writable.
        """
        root = self.root
        target = root / BACKUPS / export.name
        if target == export.folder:
            _require_whole_export(target, export)
            return export
        if target.exists():
            return _backup(target, export)
        target.parent.mkdir(exist_ok=True)
        sync_folder(root)
        with unfinished(root) as folder:
            copy_tree(export.folder, folder)
            _require_whole_export(folder, export)
            try:
                publish(folder, target)
            except OSError:
                if not target.exists():
                    raise
                return _backup(target, export)  # another process made it meanwhile
        return _read(target)

    def _inside(self, path: str) -> tuple[str, ...]:
        """Return the parts of the path below the folder. Raises: ModelDeploymentError: it is elsewhere."""
        given = Path(path)
        if ".." in given.parts or "\0" in path:
            raise ModelDeploymentError(f"{path!r} contains '..' or a NUL character, which is refused.")
        for root in (self.root, self._given):
            with suppress(ValueError):
                parts = (root / given).relative_to(root).parts
                if parts:
                    return parts
        raise ModelDeploymentError(
            f"{path} is outside the export folder {self.root}: only exports in it can be deployed."
        )


def require_whole(package: Path, export: Export) -> None:
    """Compare the files with the description. Raises: ModelValidationError: one is missing or changed."""
    try:
        packages.verify(package)
    except PackageCorrupt as exc:
        raise ModelValidationError(f"{export.name}: {exc.message} {AGAIN}") from exc
    if sha256_of(package / packages.MANIFEST) != export.manifest_sha256:
        raise ModelValidationError(f"{export.name}: {packages.MANIFEST} was changed. {AGAIN}")


def require_source(folder: Path, export: Export) -> None:
    """Check the network of an export. Raises: ModelValidationError: it is missing or was changed."""
    source = folder / SOURCE
    if not source.is_file() or sha256_of(source) != export.source_sha256:
        raise ModelValidationError(f"{export.name}: {SOURCE} is missing or was changed. {AGAIN}")


def _require_whole_export(folder: Path, export: Export) -> None:
    require_whole(folder / PACKAGE, export)
    if export.source_sha256 is not None:
        require_source(folder, export)


def _backup(folder: Path, export: Export) -> Export:
    """Read the backup of an export. Raises: ModelValidationError: it is not whole."""
    try:
        found = _read(folder)
        _require_whole_export(folder, export)
    except ModelValidationError as exc:
        raise ModelValidationError(f"The backup {folder} is damaged; remove it. {exc}") from exc
    return found


def checksum_of(package: Path, files: Iterable[str]) -> tuple[str, int]:
    """Return checksum and size in bytes of a model's files; see ``ModelExportMetadata.checksum``."""
    names = sorted(files)
    digests = {name: sha256_of(package / name) for name in names}
    size = sum((package / name).stat().st_size for name in names)
    if len(names) == 1:
        return digests[names[0]], size
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest(), size


def _name_of(metadata: ModelExportMetadata) -> str:
    moment = metadata.export_timestamp.astimezone(UTC)
    return f"{metadata.model_id}-{moment:%Y%m%dT%H%M%S%fZ}"


def _read(folder: Path) -> Export:
    """Read an export's description. Raises: ModelValidationError."""
    if folder.is_symlink():
        raise ModelValidationError(f"{folder.name} is a symbolic link, so it is not an export.")
    try:
        with open_plain(folder / DESCRIPTION) as file:
            found = json.loads(file.read())
        if found["format_version"] != _FORMAT_VERSION:
            raise ModelValidationError(
                f"{folder.name}: the export has the layout {found['format_version']}, but this version only "
                f"reads {_FORMAT_VERSION}. Update this software."
            )
        export = Export(
            folder,
            ModelExportMetadata.from_dict(found["metadata"]),
            [str(name) for name in found["files"]],
            str(found["model_name"]),
            bool(found["registered"]),
            str(found["manifest_sha256"]),
            found["source_sha256"],
        )
        if not export.files or not all(Path(name).name == name for name in export.files):
            raise ValueError("file names")
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ModelValidationError(f"{folder.name} has no {DESCRIPTION}, so it is not an export.") from exc
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelValidationError(f"{folder.name}: {DESCRIPTION} is damaged. {AGAIN}") from exc
    return export
