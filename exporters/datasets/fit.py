"""Convert rows of columns to the inputs of a model, without a change of any value."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, TensorSpec
from ..errors import InvalidDataset
from ..processing import image
from .reader import IMAGE, Column
from .schema import INPUT_NAMES

_TEXT = "text"  # the name under which encoders take texts


@dataclass(frozen=True)
class Needs:
    """What the model says about its data; see ``open_dataset``."""

    inputs: tuple[TensorSpec, ...]
    task_type: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None
    labelled: bool = True
    missing: bool = False
    columns: tuple[str, ...] = ()
    encode: Callable[[Arrays], Arrays] | None = None


class Fitter:
    """``columns``: those that the inputs are made from. ``fixed_rows``: the model's batch; None: any."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        declared: Mapping[str, Any] | None,
        label: str | None,
        needs: Needs,
        is_table: bool,
    ) -> None:
        self._columns = columns
        self._needs = needs
        self._declared = declared or {}
        fixed = {spec.shape[0] for spec in needs.inputs if spec.shape and isinstance(spec.shape[0], int)}
        if any(not spec.shape for spec in needs.inputs) or len(fixed) > 1:
            raise InvalidDataset("The model's inputs have no common first axis for rows of a dataset.")
        self.fixed_rows: int | None = next(iter(fixed), None)
        self._encoded = self._for_encoder()
        self._sources: dict[str, list[str]] = {}
        if not self._encoded:
            self._sources = {spec.name: self._source(spec, label, is_table) for spec in needs.inputs}
            for spec in needs.inputs:
                self._check(spec, self._sources[spec.name])
        used = [name for names in self._sources.values() for name in names]
        self.columns = tuple(dict.fromkeys(used or self._encoded.values()))

    @property
    def row_bytes(self) -> int:
        return sum(
            np.dtype(spec.dtype).itemsize
            * math.prod(size for size in spec.shape[1:] if isinstance(size, int))
            for spec in self._needs.inputs
        )

    def fit(
        self, rows: npt.NDArray[np.int64], columns: Mapping[str, Any]
    ) -> tuple[Arrays, list[image.Geometry] | None]:
        """Return the inputs and, for images, how each was scaled. Raises InvalidDataset with the row."""
        if self._encoded and self._needs.encode is not None:
            found = self._needs.encode({name: columns[column] for name, column in self._encoded.items()})
            return {spec.name: self._cast(found[spec.name], spec, rows) for spec in self._needs.inputs}, None
        inputs: Arrays = {}
        geometries: list[image.Geometry] | None = None
        for spec in self._needs.inputs:
            names = self._sources[spec.name]
            if self._is_pictures(names):
                inputs[spec.name], geometries = self._prepared(spec, rows, columns[names[0]])
                continue
            array = columns[names[0]] if len(names) == 1 else _stacked([columns[name] for name in names])
            if array.ndim == 1 and len(spec.shape) == 2:
                array = array[:, None]
            inputs[spec.name] = self._cast(array, spec, rows)
        return inputs, geometries

    def _for_encoder(self) -> dict[str, str]:
        """Return the encoder's names → columns, if the encoder makes the inputs; otherwise nothing."""
        if self._needs.encode is None:
            return {}
        if self._needs.columns and set(self._needs.columns) <= set(self._columns):
            return {name: name for name in self._needs.columns}
        named = [what for what in self._declared.values() if isinstance(what, str)]
        for name in [*named, _TEXT]:
            if name in self._columns and self._columns[name].kind == "U":
                return {_TEXT: name}
        return {}

    def _source(self, spec: TensorSpec, label: str | None, is_table: bool) -> list[str]:
        only = len(self._needs.inputs) == 1
        given = self._declared.get(spec.name)
        if given is None and only and len(self._declared) == 1:  # named after another model's input
            (given,) = self._declared.values()
        if given is not None:
            names = [given] if isinstance(given, str) else list(given)
            absent = [name for name in names if name not in self._columns]
            if absent:
                raise InvalidDataset(
                    f"schema.inputs names {absent[0]!r}, but the dataset has only "
                    f"{', '.join(map(repr, sorted(self._columns)))[:200]}."
                )
            return names
        if is_table and only:
            return [name for name in self._columns if name != label]
        for name in (spec.name, *((IMAGE, *INPUT_NAMES) if only else ())):
            if name in self._columns and name != label:
                return [name]
        raise InvalidDataset(
            f"The dataset has nothing for the model's input {spec.name!r}: name an array in schema.inputs. "
            f"It has {', '.join(map(repr, sorted(self._columns)))[:200]}."
        )

    def _check(self, spec: TensorSpec, names: Sequence[str]) -> None:
        """Compare the shape with the input's before a row is read."""
        if not names:
            raise InvalidDataset("The dataset has no column besides its label.")
        if self._is_pictures(names):
            return
        for name in names:
            if self._columns[name].kind not in "biuf":
                raise InvalidDataset(
                    f"The column {name!r} has {self._columns[name].dtype}, but the model's input "
                    f"{spec.name!r} takes numbers ({spec.dtype})."
                )
        if len(names) > 1 or (len(self._columns[names[0]].shape) == 0 and len(spec.shape) == 2):
            shape: tuple[int, ...] = (len(names),)
            wrong = next((name for name in names if self._columns[name].shape), None)
            if wrong is not None:
                raise InvalidDataset(f"The column {wrong!r} must have one number for each row.")
        else:
            shape = self._columns[names[0]].shape
        if not _fits(shape, spec):
            raise InvalidDataset(
                f"The dataset has the shape {['rows', *shape]} for the model's input {spec.name!r}, which "
                f"takes {list(spec.shape)}. Reshape it, or name another array in schema.inputs.".replace(
                    "'", ""
                )
            )

    def _is_pictures(self, names: Sequence[str]) -> bool:
        """Return whether the column holds images that the declared preprocessing converts."""
        if len(names) != 1:
            return False
        column = self._columns[names[0]]
        if column.kind == IMAGE:
            return True
        declared = self._needs.preprocessing
        return (
            declared is not None
            and "format" in declared
            and str(column.dtype) == "uint8"
            and (len(column.shape) == 2 or (len(column.shape) == 3 and column.shape[-1] in (1, 3)))
        )

    def _prepared(
        self, spec: TensorSpec, rows: npt.NDArray[np.int64], pictures: Any
    ) -> tuple[npt.NDArray[np.generic], list[image.Geometry]]:
        declared = self._needs.preprocessing
        if declared is None or "format" not in declared:
            raise InvalidDataset(
                "The dataset has images, but the model declares no preprocessing of images. Declare it for "
                "the model or in the export's request."
            )
        arrays, geometries = [], []
        for row, picture in zip(rows, pictures, strict=True):
            try:
                array, geometry = image.prepare(image.read(picture), declared)
            except (ValueError, OSError) as exc:
                raise InvalidDataset(f"Row {row} of the dataset: {exc}") from exc
            if not _fits(array.shape[1:], spec):
                raise InvalidDataset(
                    f"Row {row} of the dataset has the shape {list(array.shape[1:])} after the "
                    f"preprocessing, but the model takes {list(spec.shape[1:])}. Declare a resize."
                )
            arrays.append(array)
            geometries.append(geometry)
        if len({array.shape for array in arrays}) > 1:
            raise InvalidDataset("The images have different sizes: declare a resize in the preprocessing.")
        return self._cast(np.concatenate(arrays), spec, rows), geometries

    def _cast(
        self, array: npt.NDArray[Any], spec: TensorSpec, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.generic]:
        """Return the array in the input's dtype. Raises InvalidDataset if that changes a value."""
        # An encoder knows the columns that may have missing values
        wanted, missing = np.dtype(spec.dtype), self._needs.missing or bool(self._encoded)
        if array.dtype.kind == "f":
            bad = np.isinf(array) if missing else ~np.isfinite(array)
            _refuse(
                bad, rows, spec, "has infinity" if missing else "has NaN or infinity", "Remove these rows."
            )
        if array.dtype == wanted:
            return np.ascontiguousarray(array)
        with np.errstate(over="ignore", invalid="ignore"):
            done = array.astype(wanted)
            # Rounding is no error, but an overflow is
            changed = np.isinf(done) if array.dtype.kind == wanted.kind == "f" else done != array
        _refuse(
            changed,
            rows,
            spec,
            f"has a value of {array.dtype} that {wanted} cannot hold",
            "Convert the values.",
        )
        return np.ascontiguousarray(done)


def _fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    """Return whether a row of this shape fits the input."""
    return len(shape) == len(spec.shape) - 1 and all(
        isinstance(want, str) or want == have for want, have in zip(spec.shape[1:], shape, strict=True)
    )


def _stacked(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.stack([column.astype(np.float64, copy=False) for column in columns], axis=1)


def _refuse(
    bad: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64], spec: TensorSpec, what: str, advice: str
) -> None:
    if bad.any():
        row = rows[int(np.argmax(bad.reshape(len(rows), -1).any(axis=1)))]
        raise InvalidDataset(f"Row {row} of the dataset {what} for the input {spec.name!r}. {advice}")
