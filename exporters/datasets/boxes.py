"""Pictures with boxes: what the readers of COCO and YOLO share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .images import Pictures
from .reader import BOXES, IMAGE, Column, Piece, Truth

_LABEL = "label"


class BoxReader(ABC):
    """See ``reader.Reader``."""

    is_table = False
    unlabelled = ""

    def __init__(self, pictures: Pictures, classes: Sequence[str] | None) -> None:
        self._pictures = pictures
        self.classes = classes
        self.columns = {IMAGE: Column(IMAGE), _LABEL: Column(BOXES)}
        self.lengths = dict.fromkeys(self.columns, len(pictures.names))

    @abstractmethod
    def truth(self, number: int, picture: bytes) -> Truth:
        """Return the objects of a picture. Raises InvalidDataset: invalid annotations."""

    def pieces(self, names: Sequence[str], chosen: npt.NDArray[np.int64] | None = None) -> Iterator[Piece]:
        """See ``reader.Reader``."""
        for part, pictures in self._pictures.parts(self._pictures.numbers(chosen)):
            columns: dict[str, list[Any]] = {IMAGE: pictures}
            if _LABEL in names:
                pairs = zip(part.tolist(), pictures, strict=True)
                columns[_LABEL] = [self.truth(number, picture) for number, picture in pairs]
            yield part, {name: columns[name] for name in names}


def truth_of(
    corners: npt.NDArray[np.float64],
    classes: Sequence[int],
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> Truth:
    """Return objects from float64[n, 4] as x1, y1, x2, y2. By default, areas are those of the boxes."""
    count = len(classes)
    boxes = corners.reshape(count, 4)
    return Truth(
        boxes,
        np.array(classes, np.int64),
        np.array([False] * count if crowd is None else crowd, bool),
        (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) if areas is None else np.array(areas, np.float64),
    )
