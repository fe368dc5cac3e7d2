"""Pictures in a zip with a folder for each class."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from .archive import Archive
from .reader import IMAGE, PIECE_BYTES, Column, Piece

MAX_IMAGE_BYTES = 64 << 20
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_LABEL = "label"
_ORIENTATION = 0x0112  # of EXIF
_TURNED = (5, 6, 7, 8)


class Pictures:
    """The pictures of an archive, by name. Hidden files and those of macOS are left out."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.names = sorted(name for name in archive.names if _is_picture(name))
        if not self.names:
            raise InvalidDataset(f"The archive has no images; they end in {', '.join(_SUFFIXES)}.")

    def parts(self, numbers: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], list[bytes]]]:
        """Yield the bytes of the pictures with these numbers, in parts of about PIECE_BYTES."""
        start, size = 0, 0
        for place, number in enumerate(numbers.tolist()):
            size += self._archive.size(self.names[number])
            if size >= PIECE_BYTES or place == len(numbers) - 1:
                part = numbers[start : place + 1]
                yield part, [self.read(one) for one in part.tolist()]
                start, size = place + 1, 0

    def read(self, number: int) -> bytes:
        return self._archive.read(self.names[number], MAX_IMAGE_BYTES)

    def numbers(self, chosen: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        return np.arange(len(self.names)) if chosen is None else chosen


class FolderReader:
    """See ``reader.Reader``. Images in one folder have no label."""

    is_table = False
    unlabelled = "Put the images of each class into a folder with its name."

    def __init__(self, path: Path) -> None:
        self._pictures = Pictures(Archive(path))
        folders = [PurePosixPath(name).parent.name for name in self._pictures.names]
        self.classes: Sequence[str] | None = None
        self.columns: dict[str, Column] = {IMAGE: Column(IMAGE)}
        if len(set(folders)) > 1:
            self.classes = sorted(set(folders))
            self.columns[_LABEL] = Column(np.dtype("U"))
        self._folders = np.array(folders, object)  # a long name does not pad the others
        self.lengths = dict.fromkeys(self.columns, len(folders))

    def pieces(self, names: Sequence[str], chosen: npt.NDArray[np.int64] | None = None) -> Iterator[Piece]:
        """See ``reader.Reader``."""
        numbers = self._pictures.numbers(chosen)
        if IMAGE not in names:
            yield numbers, {_LABEL: self._folders[numbers]}
            return
        for part, pictures in self._pictures.parts(numbers):
            columns: dict[str, Any] = {IMAGE: pictures, _LABEL: self._folders[part]}
            yield part, {name: columns[name] for name in names}


def displayed_size(picture: bytes) -> tuple[int, int]:
    """Return width and height after the EXIF orientation, from the header. Raises ValueError: no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture)) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
    except Exception as exc:  # decoders raise many types of errors for invalid bytes
        raise ValueError("It cannot be read as an image.") from exc
    return (height, width) if turned else (width, height)


def open_file(path: Path, schema: Mapping[str, Any]) -> FolderReader:
    return FolderReader(path)


def _is_picture(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.lower().endswith(_SUFFIXES) and not any(part.startswith((".", "__MACOSX")) for part in parts)
