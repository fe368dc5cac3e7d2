"""Labels of rows: class ids from numbers or names, and numbers of a regression."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from .reader import Reader

MAX_CLASSES = 100_000
MAX_ID = 2**31 - 1


class ClassLabels:
    """The class id of every row, read in one pass.

    A name is its position in the model's ``classes``, otherwise in the dataset's, otherwise among the sorted
    names. A number is a position in the dataset's ``classes``, whose name then is looked up in the model's.
    Without names of the dataset it is a name too if the model's names are numbers (``numbered``), and
    otherwise the id itself.

    Raises:
        InvalidDataset: a label that is no class, or too many classes.
    """

    def __init__(
        self, reader: Reader, label: str, of_model: Sequence[str] | None, of_dataset: Sequence[str] | None
    ) -> None:
        column = reader.columns[label]
        if column.shape not in ((), (1,)) or column.kind not in "biufUS":
            raise InvalidDataset(
                f"The label {label!r} of a classification must be one integer or name for each row, not "
                f"{column.dtype} with the shape {['rows', *column.shape]}."
            )
        codes: dict[Any, int] = {}
        parts = [np.empty(0, np.int32)]
        for rows, piece in reader.pieces([label]):
            if piece[label].dtype.kind == "O" and any(value is None for value in piece[label]):
                raise InvalidDataset(
                    f"The label {label!r} is missing in a row from {rows[0]} on. Remove these rows."
                )
            different, inverse = np.unique(np.ravel(piece[label]), return_inverse=True)
            known = [codes.setdefault(value, len(codes)) for value in different.tolist()]
            if len(codes) > MAX_CLASSES:
                raise InvalidDataset(
                    f"The label {label!r} has more than {MAX_CLASSES:,} different values. For numbers to be "
                    'predicted, set schema.task to "regression".'
                )
            parts.append(np.array(known, np.int32)[inverse])
        values = [_text(label, value) if isinstance(value, bytes) else value for value in codes]
        names = of_model or of_dataset
        if not names and column.kind in "US":
            names = sorted(values)
        self.classes = list(names) if names else None
        ids = _Ids(label, of_model, of_dataset, self.classes)
        self.ids: npt.NDArray[np.int32] = np.array([ids.of(value) for value in values], np.int32)[
            np.concatenate(parts)
        ]


def numbers(label: str, values: Any) -> npt.NDArray[np.float64]:
    """Return the labels of a regression as float64. Raises InvalidDataset: texts, NaN or infinity."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InvalidDataset(f"The label {label!r} of a regression must be numbers, not {array.dtype}.")
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        raise InvalidDataset(f"The label {label!r} has NaN or infinity. Remove these rows.")
    return wide


def numbered(classes: Sequence[str]) -> bool:
    """Return whether the names are whole numbers, as those of an estimator that was fitted on numbers."""
    return all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in classes)


def positions(
    of_dataset: Sequence[str] | None, of_model: Sequence[str] | None
) -> npt.NDArray[np.int64] | None:
    """Return the model's class id of each class of the dataset, by name; None if one has no names.

    Raises:
        InvalidDataset: the model does not have a class of the dataset.
    """
    if not of_dataset or not of_model:
        return None
    places = _places(of_model)
    return np.array([_position("classes", name, places) for name in of_dataset], np.int64)


class _Ids:
    """The class ids of a label's values; see ``ClassLabels``."""

    def __init__(
        self,
        label: str,
        of_model: Sequence[str] | None,
        of_dataset: Sequence[str] | None,
        classes: Sequence[str] | None,
    ) -> None:
        self._label = label
        self._places = _places(classes or ())
        self._count = len(of_dataset or classes or ())
        self._by_number = bool(of_model and not of_dataset and numbered(of_model))
        self._renamed = of_dataset if of_model else None  # a number is the place of a name of the dataset

    def of(self, value: Any) -> int:
        if isinstance(value, str):
            return _position(self._label, value, self._places)
        if value != value:
            raise InvalidDataset(f"The label {self._label!r} is missing or NaN in a row. Remove these rows.")
        if abs(value) > MAX_ID or value != int(value):
            raise InvalidDataset(
                f"The label {self._label!r} has the value {value}, which is no class. For numbers to be "
                'predicted, set schema.task to "regression".'
            )
        number = int(value)
        if self._by_number:
            return _position(self._label, str(number), self._places)
        if self._count and not 0 <= number < self._count:
            raise InvalidDataset(
                f"The label {self._label!r} has the class {number}, but there are {self._count} classes."
            )
        return _position(self._label, self._renamed[number], self._places) if self._renamed else number


def _places(classes: Sequence[str]) -> dict[str, int]:
    """Return the first place of each name."""
    return {name: place for place, name in reversed(list(enumerate(classes)))}


def _position(label: str, name: str, places: Mapping[str, int]) -> int:
    if name not in places:
        known = ", ".join(map(repr, sorted(places, key=places.__getitem__)[:10]))
        raise InvalidDataset(
            f"The label {label!r} has the class {name[:80]!r}, which is not among the classes: {known[:300]}."
        )
    return places[name]


def _text(label: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidDataset(f"The label {label!r} has a name that is no UTF-8 text.") from exc
