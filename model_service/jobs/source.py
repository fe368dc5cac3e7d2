"""The source of an export, fetched into its conversion's workspace."""

import errno
from pathlib import Path, PurePosixPath

from model_service.jobs.converter import ConversionError
from model_service.storage.blobs.blobs import BlobDamaged, Blobs, blob_of
from model_service.storage.common.db import Document

# In a folder of several files, this one says that the folder as a whole is the model.
_FOLDER_MARK = "config.json"
# What is no model without its folder; an ONNX file or a program beside it is one.
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_PARTS = _WEIGHTS | {".json", ".txt", ".model", ".md", ""}


def fetch(blobs: Blobs, source: Document, workspace: Path, *, architecture: bool = False) -> Path:
    """Write the source's files, and return what is converted.

    One file is ``source`` with its extension. Several lie in the folder ``source`` at their paths. What is
    converted is the primary file, with the others where its external data is looked for; or, where that is
    a part of a folder with a ``config.json``, as of Hugging Face, this folder.

    Args:
        architecture: the request says what network the primary file's weights are of: they are no folder's.

    Raises:
        ConversionError: a stored file lacks bytes, or the paths are no files of one folder here.
    """
    if "files" not in source:
        path = workspace / f"source{Path(source['filename']).suffix}"
        _write(blobs, source, path)
        return path
    folder = workspace / "source"
    try:
        for file in source["files"]:
            path = _inside(folder, file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(blobs, file, path)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
        raise _no_folder("one of them is a file and a folder at once") from exc
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise  # the disk is full, or broken: nobody's model is to blame
        raise _no_folder("one of their names is too long for a file") from exc
    primary = _inside(folder, source["primary"])
    whole = (primary.parent / _FOLDER_MARK).is_file() and primary.suffix in _PARTS
    return primary.parent if whole and not (architecture and primary.suffix in _WEIGHTS) else primary


def fetch_samples(blobs: Blobs, source: Document, workspace: Path) -> Path | None:
    """Write the sample inputs that are stored with the model; None where there are none.

    Raises:
        ConversionError: the stored file lacks bytes.
    """
    if "sample_inputs" not in source:
        return None
    path = workspace / "sample_inputs.npz"
    _write(blobs, source["sample_inputs"], path)
    return path


def _inside(folder: Path, path: str) -> Path:
    """``check_path`` let this path in; that a path leads nowhere else is not taken on trust all the same."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part in {"..", "."} or "\0" in part for part in parts):
        raise _no_folder("a path leads out of it")
    return folder.joinpath(*parts)


def _write(blobs: Blobs, reference: Document, path: Path) -> None:
    blob = blob_of(reference)
    try:
        with path.open("xb") as file:
            for piece in blobs.read(blob.id, 0, blob.size_bytes):
                file.write(piece)
    except BlobDamaged as exc:
        message = "The stored source file is damaged; upload the model again."
        raise ConversionError("source_damaged", message) from exc


def _no_folder(why: str) -> ConversionError:
    return ConversionError("invalid_source", f"The model's files cannot be laid into one folder: {why}.")
