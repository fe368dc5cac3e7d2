"""Convert records, CSV or a data frame to the input of a model that was fitted on named columns.

``table`` of metadata.json lists the columns in the order of the input:

name        of the column; the order in a request does not matter
dtype       ``number``; ``string``, whose index in ``categories`` is passed to the model; ``text``, whose
            terms are counted as the ``vectorizer.json`` of the table's ``vectorizer`` says: the model gets
            0, and the counts after all columns; or ``unused``: it may be left out, and is not read
categories  those of a ``string`` column, otherwise null
missing     whether null, None, NaN or an empty cell of CSV is accepted; the model gets NaN
unknown     whether an unlisted text is accepted; the model gets -1

Needs numpy, and nothing of this project: a package's Python wrapper contains this file.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

UNKNOWN = -1.0
_MISSING_CELLS = frozenset(("", "na", "n/a", "nan", "null", "none"))
_TRUTH = {"true": 1.0, "false": 0.0}
# A cell of two bytes takes seventy times as many in memory.
_MAX_CSV_CELLS = 2_000_000


class ColumnError(ValueError):
    """A column is missing, unknown, or has a value that it does not accept. ``column`` is its name."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(f"The column {column[:100]!r} {message}.")
        self.column = column[:100]
        self.what = message


class Counter(Protocol):
    """Counts the terms of texts, as ``vectorizer.Counter``."""

    @property
    def width(self) -> int: ...

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


class Table:
    """The columns of a model.

    ``declared``: ``table`` of metadata.json. ``counters``: by name, those of the columns of texts.
    """

    def __init__(self, declared: Mapping[str, Any], counters: Mapping[str, Counter] | None = None) -> None:
        self.input: str = declared["input"]
        self.columns: Sequence[Mapping[str, Any]] = declared["columns"]
        self._known = frozenset(column["name"] for column in self.columns)
        self._needed = [column["name"] for column in self.columns if column["dtype"] != "unused"]
        self._names = frozenset(self._needed)
        self._codes = {
            column["name"]: {text: float(place) for place, text in enumerate(column["categories"])}
            for column in self.columns
            if column["dtype"] == "string"
        }
        texts = [column["name"] for column in self.columns if column["dtype"] == "text"]
        self._counters = {name: (counters or {})[name] for name in texts}

    def rows(self, data: Any, dtype: Any = np.float32, limit_bytes: int | None = None) -> npt.NDArray[Any]:
        """Return ``dtype[rows, columns and terms]``.

        Args:
            data: records, ``{"columns", "data"}``, a data frame, or CSV text.
            limit_bytes: of the result, if the table has columns of texts.

        Raises:
            ColumnError: a column is missing, unknown, or has a value that it does not accept.
            ValueError: there are no rows, they are no table, the CSV has too many cells, or the result is
                too large.
        """
        if isinstance(data, (bytes, str)):
            _check_cells(data)
        if isinstance(data, bytes):
            data = data.decode("utf-8-sig")
        values = self._of_csv(data) if isinstance(data, str) else self._values(data)
        count = len(values[self._needed[0]])
        if not count:
            raise ValueError("The table has no rows.")
        width = len(self.columns) + sum(counter.width for counter in self._counters.values())
        size = count * width * np.dtype(dtype).itemsize
        if self._counters and limit_bytes is not None and size > limit_bytes:
            raise ValueError(
                f"{count:,} rows are {size:,} bytes for the model, more than {limit_bytes:,}: send fewer "
                "at a time."
            )
        found = np.zeros((count, width), dtype)
        start = len(self.columns)
        for name, counter in self._counters.items():
            found[:, start : start + counter.width] = _counts(name, counter, values[name])
            start += counter.width
        for place, column in enumerate(self.columns):
            if column["dtype"] in ("number", "string"):
                numbers = np.array(self._numbers(column, values[column["name"]]))
                with np.errstate(over="ignore"):
                    found[:, place] = numbers
                if (np.isinf(found[:, place]) & np.isfinite(numbers)).any():
                    raise ColumnError(column["name"], f"has a number that {found.dtype} cannot hold")
        return found

    def _values(self, data: Any) -> Mapping[str, Sequence[Any]]:
        if isinstance(data, Mapping) and set(data) - {"index"} == {"columns", "data"}:
            return self._of_split(data["columns"], data["data"])
        if hasattr(data, "columns") and hasattr(data, "__getitem__"):
            self._check_names(str(name) for name in data.columns)
            return {name: _listed(data[name]) for name in self._names}
        if isinstance(data, Mapping):
            data = [data]
        if not isinstance(data, Sequence) or not all(isinstance(record, Mapping) for record in data):
            raise ValueError("Records must be a list of objects, each with a value by column name.")
        for record in data:
            if record.keys() != self._names:
                self._check_names(record)
        return {name: [record[name] for record in data] for name in self._names}

    def _of_split(self, names: Any, rows: Any) -> Mapping[str, Sequence[Any]]:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("'columns' must be a list of names.")
        if not isinstance(rows, list) or not all(
            isinstance(row, list) and len(row) == len(names) for row in rows
        ):
            raise ValueError("'data' must be a list of rows, each with a value for each of 'columns'.")
        self._check_names(names)
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def _of_csv(self, text: str) -> Mapping[str, Sequence[Any]]:
        try:
            names, *rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row] or [[]]
        except csv.Error as exc:
            raise ValueError(f"The CSV cannot be read: {exc}.") from None
        self._check_names(names)
        if any(len(row) != len(names) for row in rows):
            raise ValueError(f"The CSV has rows without exactly {len(names)} columns.")
        return {
            name: [
                row[place] if name in self._counters else _cell(row[place], self._codes.get(name))
                for row in rows
            ]
            for place, name in enumerate(names)
        }

    def _check_names(self, given: Iterable[str]) -> None:
        seen: set[str] = set()
        for name in given:
            if name in seen:
                raise ColumnError(str(name), "occurs twice")
            seen.add(name)
            if name not in self._known:
                raise ColumnError(
                    str(name), f"is unknown; the model's columns are {', '.join(map(repr, self._needed))}"
                )
        for name in self._needed:
            if name not in seen:
                raise ColumnError(name, "is missing")

    def _numbers(self, column: Mapping[str, Any], values: Sequence[Any]) -> list[float]:
        name, codes = column["name"], self._codes.get(column["name"])
        found = []
        for value in values:
            if _is_missing(value):
                if not column["missing"]:
                    raise ColumnError(name, "has a missing value, which the model does not accept")
                found.append(np.nan)
            elif codes is None:
                if not isinstance(value, (bool, int, float)):
                    raise ColumnError(name, f"takes numbers, not {value!r:.100}")
                found.append(_float(name, value))
            elif not isinstance(value, str):
                raise ColumnError(name, f"takes texts, not {value!r:.100}")
            else:
                code = codes.get(value, UNKNOWN)
                if code == UNKNOWN and not column["unknown"]:
                    raise ColumnError(name, f"has {value!r:.100}, which is not one of the model's categories")
                found.append(code)
        return found


def _counts(name: str, counter: Counter, texts: Sequence[Any]) -> npt.NDArray[np.float32]:
    for text in texts:
        if _is_missing(text):
            raise ColumnError(name, "has a missing value, which the model does not accept")
        if not isinstance(text, str):
            raise ColumnError(name, f"takes texts, not {text!r:.100}")
    try:
        return counter.counts(texts)
    except ValueError as exc:
        raise ColumnError(name, f"cannot be counted: {str(exc).rstrip('.')}") from None


def _check_cells(text: bytes | str) -> None:
    newline, comma = (b"\n", b",") if isinstance(text, bytes) else ("\n", ",")
    if text.count(newline) + text.count(comma) > _MAX_CSV_CELLS:  # type: ignore[arg-type]
        raise ValueError(
            f"The CSV has more than {_MAX_CSV_CELLS:,} cells: send fewer rows at a time, or a data "
            "frame (to an endpoint: Parquet)."
        )


def _listed(series: Any) -> list[Any]:
    return list(series.tolist() if hasattr(series, "tolist") else series.to_list())


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or a marker of pandas, which equals nothing."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in _MARKERS


_MARKERS = ("NAType", "NaTType")


def _float(name: str, value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ColumnError(name, "has an integer that a float cannot hold") from None


def _cell(text: str, codes: Mapping[str, float] | None) -> Any:
    """Parse a cell of CSV: an empty cell is missing, unless the empty text is a category."""
    if codes is not None:
        return text if text or text in codes else None
    stripped = text.strip().lower()
    if stripped in _MISSING_CELLS:
        return None
    try:
        return _TRUTH[stripped] if stripped in _TRUTH else float(stripped)
    except ValueError:
        return text
