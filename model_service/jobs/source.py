"""Fetches the source and the datasets of a job into the workspace of its child."""

import errno
from pathlib import Path, PurePosixPath
from typing import Any

from model_service.jobs.converter import ConversionError
from model_service.states import JobErrorCode
from model_service.storage.blobs.blobs import BlobDamaged, Blobs, blob_of
from model_service.storage.common.documents import BlobReference, JobDataset, JobSource, whole_file
from model_service.storage.exports.documents import ExportJob

# A folder with this file is a model as a whole.
_FOLDER_MARK = "config.json"
# Suffixes of files that are no model without their folder; an ONNX file or program in it is a model itself.
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_PARTS = _WEIGHTS | {".json", ".txt", ".model", ".md", ""}


def fetch(blobs: Blobs, source: JobSource, workspace: Path, *, architecture: bool = False) -> Path:
    """Write the source's files, and return the path to convert.

    A single file is ``source`` with its extension. Several files go to the folder ``source`` at their paths.
    The result is the primary file, next to which its external data is found. If the primary file is part of a
    folder with a ``config.json``, as in Hugging Face models, the result is that folder.

    Args:
        architecture: the request names the network for the primary file's weights, so it is used alone.

    Raises:
        ConversionError: a stored file lacks bytes, or the paths cannot be files in one folder here.
    """
    if "files" not in source:
        path = workspace / f"source{Path(source['filename']).suffix}"
        write_blob(blobs, whole_file(source), path)
        return path
    folder = workspace / "source"
    try:
        for file in source["files"]:
            path = _inside(folder, file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_blob(blobs, file, path)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
        raise _no_folder("one path is used for both a file and a folder") from exc
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise  # the disk is full or broken, which is not the model's fault
        raise _no_folder("one of the names is too long for a file") from exc
    primary = _inside(folder, source["primary"])
    whole = (primary.parent / _FOLDER_MARK).is_file() and primary.suffix in _PARTS
    return primary.parent if whole and not (architecture and primary.suffix in _WEIGHTS) else primary


def fetch_samples(blobs: Blobs, source: JobSource, workspace: Path) -> Path | None:
    """Write the sample inputs that are stored with the model; None if there are none.

    Raises:
        ConversionError: the stored file lacks bytes.
    """
    if "sample_inputs" not in source:
        return None
    path = workspace / "sample_inputs.npz"
    write_blob(blobs, source["sample_inputs"], path)
    return path


def fetch_teacher(blobs: Blobs, job: ExportJob, workspace: Path) -> dict[str, Any] | None:
    """Write the files of a job's teacher, and return its description for ``optimization``; None without one.

    Raises:
        ConversionError: as ``fetch``.
    """
    teacher = job.get("teacher")
    if teacher is None:
        return None
    optimization: Any = job["optimization_config"]
    named = optimization["distillation"]["teacher_config"].get("architecture") is not None
    folder = workspace / "teacher"
    folder.mkdir()
    path = fetch(blobs, teacher, folder, architecture=named)
    return {"path": str(path), **{field: teacher[field] for field in ("name", "version", "checksum")}}


def fetch_dataset(blobs: Blobs, dataset: JobDataset, workspace: Path) -> dict[str, Any]:
    """Write the data file, and return its description in the form of ``exporters.datasets.DatasetFile``.

    Raises:
        ConversionError: the stored file lacks bytes.
    """
    path = workspace / f"dataset-{dataset['role']}{Path(dataset['filename']).suffix[:20]}"
    write_blob(blobs, dataset, path, "dataset")
    described = {"format", "schema", "task_type", "name", "version", "checksum"}
    return {"path": str(path), **{field: value for field, value in dataset.items() if field in described}}


def _inside(folder: Path, path: str) -> Path:
    """Join a path to the folder. ``check_path`` has validated it, but it is checked again for safety."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part in {"..", "."} or "\0" in part for part in parts):
        raise _no_folder("a path points outside the folder")
    return folder.joinpath(*parts)


def write_blob(blobs: Blobs, reference: BlobReference, path: Path, what: str = "model") -> None:
    blob = blob_of(reference)
    try:
        with path.open("xb") as file:
            for piece in blobs.read(blob.id, 0, blob.size_bytes):
                file.write(piece)
    except BlobDamaged as exc:
        message = f"A stored file is damaged; upload the {what} again."
        raise ConversionError(JobErrorCode.SOURCE_DAMAGED, message) from exc


def _no_folder(why: str) -> ConversionError:
    return ConversionError(
        JobErrorCode.INVALID_SOURCE,
        f"The model's files cannot be written into one folder: {why}. Rename the file and try again.",
    )
