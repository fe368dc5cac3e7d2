"""Estimators that were fitted on a data frame: columns with names, some of them strings.

A string becomes the index of its category in the column's list in metadata.json, -1 if it is unknown and NaN
if it is missing. The converted program is a copy of the estimator whose encoders and imputers know these
indices instead of the strings. It is compared with the original estimator, which gets the strings.
``text_columns`` has the columns whose terms a vectorizer counts.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Source
from ..errors import InvalidSource, as_limit
from ..package import VECTORIZER
from ..processing.table import UNKNOWN
from ..processing.table import Table as RowEncoder
from . import probes, string_columns, text_columns
from .columns import members, selects, table_readers
from .objects import walk
from .term_counts import MOST_SAMPLES
from .text_columns import TextColumns


@dataclass(frozen=True)
class Table:
    """The columns of a table. ``program`` is the estimator that takes indices.

    ``texts``: the categories of each column, None for numbers. ``words``: the columns of texts; their counts
    follow the columns in a row.
    """

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...] | None, ...]
    missing: tuple[Any, ...]  # per column of texts: None or NaN, the estimator's form of a missing text
    used: frozenset[int]
    original: Any
    program: Any
    words: TextColumns | None = None

    def answered(
        self, by_frame: Callable[[Any], Arrays], by_rows: Callable[[Any], Arrays]
    ) -> Callable[[Any], Arrays]:
        """Return a function from rows to outputs.

        It calls the original estimator, and the program for rows with counts of no known text.
        """

        def answer(rows: npt.NDArray[Any]) -> Arrays:
            values = self.values(rows)
            return by_rows(rows) if values is None else by_frame(_frame(values))

        return answer if self.has_strings else by_frame

    def values(self, rows: npt.NDArray[Any]) -> dict[str, Any] | None:
        """Return the values of the columns by name; None if the counts of a row are those of no known text.

        Raises:
            ValueError: a number that is no category of its column.
        """
        words = {} if self.words is None else self.words.known(rows)
        if words is None:
            return None
        values: dict[str, Any] = {}
        for place, (name, texts) in enumerate(zip(self.names, self.texts, strict=True)):
            if place in words:
                values[name] = words[place]
            elif texts is None:
                values[name] = rows[:, place]
            else:
                values[name] = [self._text(place, texts, code) for code in rows[:, place].tolist()]
        return values

    @property
    def has_strings(self) -> bool:
        """Return whether the original takes a data frame."""
        return self.words is not None or any(texts is not None for texts in self.texts)

    def _text(self, place: int, texts: tuple[str, ...], code: float) -> Any:
        if code != code:
            return self.missing[place]
        if code == int(code) and 0 <= code < len(texts):
            return texts[int(code)]
        if code != UNKNOWN:
            raise ValueError(f"The column {self.names[place]!r} has no category {code}.")
        return "no such category of " + "".join(texts)

    def describe(self, source: Source) -> dict[str, Any]:
        """Return ``table`` of metadata.json, as ``processing.table`` reads it."""
        assert source.draw is not None
        typical = source.draw(source.shapes({"batch": 1}), 0)
        return {
            "input": source.inputs[0].name,
            "columns": [
                {
                    "name": name,
                    "dtype": self._dtype(place),
                    "categories": None if texts is None else list(texts),
                    "missing": self._dtype(place) != "text"
                    and takes(source.reference, typical, np.nan, place),
                    "unknown": texts is not None and takes(source.reference, typical, UNKNOWN, place),
                }
                for place, (name, texts) in enumerate(zip(self.names, self.texts, strict=True))
            ],
            "vectorizer": None if self.words is None else VECTORIZER,
        }

    def document(self) -> dict[str, Any] | None:
        """Return the content of vectorizer.json; None if there are no texts."""
        return None if self.words is None else self.words.document(self.names)

    def learn(self, other: "Table") -> None:
        """Take over the known texts of the same table."""
        if self.words is not None and other.words is not None:
            self.words.learn(other.words)

    def golden(self, name: str, rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return the values of the columns, by number, that make these rows of the input ``name``.

        Empty if there are no texts, or a string is missing.
        """
        values = self.values(rows) if self.words is not None else None
        if values is None:
            return {}
        columns = {place: values[self.names[place]] for place in sorted(self.used)}
        if any(len({isinstance(value, str) for value in column}) > 1 for column in columns.values()):
            return {}  # a missing string: an array would hold it as the text 'nan'
        arrays = {f"column:{place}": np.array(column) for place, column in columns.items()}
        return arrays if all(array.dtype.kind in "fU" for array in arrays.values()) else {}

    def _dtype(self, place: int) -> str:
        if place not in self.used:
            return "unused"
        if self.words is not None and place in self.words.counts:
            return "text"
        return "number" if self.texts[place] is None else "string"

    def probes(
        self, typical: npt.NDArray[Any], coverage: dict[str, int]
    ) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield the rows of ``probes.classes``, with typical texts, and then the probes of the texts."""
        words = self.words
        narrow = typical[:, : len(self.names)]
        for kind, rows in probes.classes(self.program, narrow, coverage, width=typical.shape[1]):
            rows = self.projected(rows)
            yield kind, rows if words is None else words.beside(rows, typical)
        if words is not None:
            yield from words.probes(typical, coverage)

    def has(self, arrays: Arrays) -> bool:
        """Return whether the arrays are named like columns."""
        return not set(self.names).isdisjoint(arrays)

    def encoded(self, source: Source, arrays: Arrays) -> npt.NDArray[Any]:
        """Return the rows of sample columns.

        Raises:
            ValueError: a column is missing, unknown or has a value that it does not accept; or too many rows.
        """
        columns = [array.tolist() for array in arrays.values()]
        if any(array.ndim != 1 for array in arrays.values()) or len(set(map(len, columns))) != 1:
            raise ValueError("The columns of the sample inputs have one value for each row.")
        counters = {} if self.words is None else self.words.counters(self.names)
        encoder = RowEncoder(self.describe(source), counters)
        dtype = np.dtype(source.inputs[0].dtype)
        data = [list(row) for row in zip(*columns, strict=True)]
        return encoder.rows({"columns": list(arrays), "data": data}, dtype, MOST_SAMPLES * dtype.itemsize)

    def projected(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the rows with the index of a category, UNKNOWN or NaN in each column of strings."""
        rows = rows.copy()
        for place, texts in enumerate(self.texts):
            if texts is not None:
                column = rows[:, place]
                known = np.isnan(column) | (column == np.clip(np.round(column), 0, len(texts) - 1))
                rows[:, place] = np.where(known, column, UNKNOWN)
        return rows


def takes(
    reference: Callable[[Arrays], Arrays], typical: Arrays, value: float, place: int | None = None
) -> bool:
    """Return whether the source accepts the value in a column, or in every column."""
    ((name, rows),) = typical.items()
    rows = rows[:1].copy()
    rows[:, slice(None) if place is None else place] = value
    try:
        reference({name: rows})
    except Exception as exc:
        if limit := as_limit(exc):
            raise limit from exc
        return False
    return True


def of(estimator: Any) -> Table | None:
    """Return the table of an estimator; None if its columns have no names of their own.

    Raises:
        InvalidSource: strings that cannot be replaced by indices of categories, with the cause.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or np.ndim(names) != 1 or not all(isinstance(name, str) for name in names):
        return None
    if list(names) == [f"Column_{place}" for place in range(len(names))]:  # LightGBM's names for an array
        return None
    _select_by_place(estimator)
    texts, missing = string_columns.of(estimator, names)
    words = text_columns.of(estimator, names)
    for place in () if words is None else words.counts:
        if texts[place] is not None:
            raise InvalidSource(
                f"The column {names[place]!r} is read by a vectorizer, as a text, and by an encoder, as a "
                "category. Give the encoder a copy of the column with another name, fit and save again."
            )
    used = _used(estimator, len(names))
    table = Table(tuple(map(str, names)), texts, missing, used, estimator, estimator, words)
    return replace(table, program=_program(table)) if table.has_strings else table


def _program(table: Table) -> Any:
    """Return a copy of the estimator that takes indices and counts, not columns with names."""
    words = table.words
    program = copy.deepcopy(table.original, {} if words is None else words.replacements())
    if words is not None:
        words.select_counts(program)
    counted = 0 if words is None else words.width - words.first
    string_columns.replace(program, [*table.texts, *[None] * counted])
    for part in walk(program):
        getattr(part, "__dict__", {}).pop("feature_names_in_", None)
    return program


def _frame(values: Mapping[str, Any]) -> Any:
    """Return a data frame.

    An array of objects would pass numbers on as objects, which compiled code behind a column transformer
    rejects. A column of objects keeps None and NaN unchanged.
    """
    import polars

    return polars.DataFrame(
        {
            name: polars.Series(name, column, dtype=polars.Object if isinstance(column, list) else None)
            for name, column in values.items()
        }
    )


def _select_by_place(estimator: Any) -> None:
    """Make column transformers select by index: they select by name, which an array does not have."""
    for part in walk(estimator):
        places = getattr(part, "_transformer_to_input_indices", None)
        if places is None or not hasattr(part, "transformers_"):
            continue
        part.transformers_ = [
            (name, one, places[name][0] if np.isscalar(columns) else list(map(int, places[name])))
            if name in places
            else (name, one, columns)
            for name, one, columns in part.transformers_
        ]


def _used(estimator: Any, width: int) -> frozenset[int]:
    """Return the columns that something else than a column transformer reads, or that none of them drops."""
    used: set[int] = set()
    for part in table_readers(estimator):
        if selects(part):
            for name, one, _ in part.transformers_:
                if not (isinstance(one, str) and one == "drop"):
                    used.update(map(int, part._transformer_to_input_indices.get(name, ())))
        elif not getattr(part, "steps", None) and not _hands_on(part):
            return frozenset(range(width))
    return frozenset(used)


def _hands_on(part: Any) -> bool:
    """Return whether only the members of a vote, a search ... read the table."""
    inside = members(part)
    return (
        bool(inside) and all(columns is None for _, columns in inside) and not getattr(part, "passthrough", 0)
    )
