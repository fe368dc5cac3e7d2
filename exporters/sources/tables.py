"""Estimators that were fitted on a data frame: columns with names, some of them strings.

A string becomes the index of its category in the column's list in metadata.json, -1 if it is unknown and NaN
if it is missing. The converted program is a copy of the estimator whose encoders and imputers know these
indices instead of the strings. It is compared with the original estimator, which gets the strings.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Source
from ..errors import InvalidSource, as_limit
from ..processing.table import UNKNOWN
from .columns import keeps_values, members
from .objects import walk

Places = npt.NDArray[np.int64]
_ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")


@dataclass(frozen=True)
class Table:
    """The columns of a table. ``program`` is the estimator that takes indices.

    ``texts``: the categories of each column, None for numbers.
    """

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...] | None, ...]
    missing: tuple[Any, ...]  # per column of texts: None or NaN, the estimator's form of a missing text
    used: frozenset[int]
    original: Any
    program: Any

    def decoded(self, rows: npt.NDArray[Any]) -> Any:
        """Return the input of the original: the rows themselves, or a data frame if there are strings.

        An array of objects would pass numbers on as objects, which compiled code behind a column transformer
        rejects. A column of objects keeps None and NaN unchanged.
        """
        if not self.has_texts:
            return rows
        import polars

        columns = {}
        for place, (name, texts) in enumerate(zip(self.names, self.texts, strict=True)):
            column = rows[:, place]
            if texts is None:
                columns[name] = polars.Series(name, column)
            else:
                found = [self._text(place, texts, code) for code in column.tolist()]
                columns[name] = polars.Series(name, found, dtype=polars.Object)
        return polars.DataFrame(columns)

    @property
    def has_texts(self) -> bool:
        return any(texts is not None for texts in self.texts)

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
                    "dtype": ("number" if texts is None else "string") if place in self.used else "unused",
                    "categories": None if texts is None else list(texts),
                    "missing": takes(source.reference, typical, np.nan, place),
                    "unknown": texts is not None and takes(source.reference, typical, UNKNOWN, place),
                }
                for place, (name, texts) in enumerate(zip(self.names, self.texts, strict=True))
            ],
        }

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
    width = len(names)
    readers = list(_readers(estimator, np.arange(width)))
    lists: list[list[list[Any]]] = [[] for _ in range(width)]
    missing: list[Any] = [None] * width
    for part, columns in readers:
        for place, values in zip(columns.tolist(), _values(part), strict=True):
            if _are_texts(values):
                lists[place].append([value for value in values.tolist() if not _is_missing(value)])
                missing[place] = _marker(part, values, missing[place])
    texts = [_in_order(names[place], found) if found else None for place, found in enumerate(lists)]
    program = estimator
    _refuse_others(estimator, readers)
    if any(one is not None for one in texts):
        program = copy.deepcopy(estimator)
        for part, columns in _readers(program, np.arange(width)):
            _write_places(part, [texts[place] for place in columns.tolist()])
        for part in walk(program):  # it now takes indices, not columns with these names
            getattr(part, "__dict__", {}).pop("feature_names_in_", None)
    return Table(
        tuple(map(str, names)), tuple(texts), tuple(missing), _used(estimator, width), estimator, program
    )


def _select_by_place(estimator: Any) -> None:
    """Make column transformers select by index: they select by name, which an array does not have."""
    for part in walk(estimator):
        places = getattr(part, "_transformer_to_input_indices", None)
        if places is None or not hasattr(part, "transformers_"):
            continue
        part.transformers_ = [
            (name, one, places[name][0] if isinstance(columns, str) else list(map(int, places[name])))
            if name in places
            else (name, one, columns)
            for name, one, columns in part.transformers_
        ]


def _readers(part: Any, columns: Places) -> Iterator[tuple[Any, Places]]:
    """Yield the encoders and imputers that read input columns unchanged, with the columns' indices."""
    if part is None or isinstance(part, str):
        return
    steps = getattr(part, "steps", None)
    if steps:
        for _, step in steps:
            yield from _readers(step, columns)
            if not keeps_values(step):
                return
        return
    if type(part).__name__ in _ENCODERS or hasattr(part, "statistics_"):
        if len(_values(part)) == len(columns):
            yield part, columns
        return
    for member, chosen in members(part):
        yield from _readers(member, columns if chosen is None else columns[chosen])


def _values(part: Any) -> list[npt.NDArray[Any]]:
    """Return, per column, the part's categories, or its replacement of a missing value."""
    if hasattr(part, "categories_"):
        return [np.asarray(values) for values in part.categories_]
    return [np.asarray([value], object) for value in np.asarray(part.statistics_).tolist()]


def _are_texts(values: npt.NDArray[Any]) -> bool:
    return any(isinstance(value, str) for value in values.tolist())


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _in_order(name: str, lists: list[list[Any]]) -> tuple[str, ...]:
    """Return all texts of a column in an order that keeps the order of each part's categories."""
    if not all(isinstance(text, str) for texts in lists for text in texts):
        raise InvalidSource(
            f"The column {name!r} mixes texts and other values in its categories. Convert all of "
            "them to texts, fit and save again."
        )
    union = sorted({text for texts in lists for text in texts})
    if not all(texts == sorted(texts) for texts in lists):
        longest = max(lists, key=len)
        union = [*longest, *(text for text in union if text not in longest)]
    if any([text for text in union if text in texts] != texts for texts in lists):
        raise InvalidSource(
            f"Two encoders of the column {name!r} list its categories in different orders. Give "
            "both the same order, fit and save again."
        )
    return tuple(union)


def _marker(part: Any, values: npt.NDArray[Any], have: Any) -> Any:
    """Return the estimator's representation of a missing text; ``have`` if it has none of its own."""
    for value in (*values.tolist(), getattr(part, "missing_values", None)):
        if isinstance(value, float) and value != value:
            return value
    return have


def _write_places(part: Any, texts: list[tuple[str, ...] | None]) -> None:
    if all(one is None for one in texts):
        return
    if hasattr(part, "categories_"):
        part.categories_ = [
            _numbers(values)
            if one is None
            else np.array([_place(value, one) for value in values.tolist()], np.float64)
            for one, values in zip(texts, _values(part), strict=True)
        ]
        return
    statistics = [
        value if one is None else _place(value, one)
        for one, value in zip(texts, np.asarray(part.statistics_).tolist(), strict=True)
    ]
    part.statistics_ = np.array(statistics, np.float64)
    part.missing_values = np.nan
    part._fit_dtype = part._fill_dtype = np.dtype(np.float64)
    if isinstance(part.fill_value, str):
        part.fill_value = statistics[0]


def _numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return categories as numbers if possible: beside a column of texts, they are stored as objects."""
    try:
        return np.array([np.nan if _is_missing(value) else value for value in values.tolist()], np.float64)
    except (TypeError, ValueError):
        return values


def _place(value: Any, texts: tuple[str, ...]) -> float:
    return np.nan if _is_missing(value) else float(texts.index(value))


def _refuse_others(estimator: Any, readers: list[tuple[Any, Places]]) -> None:
    """Raises InvalidSource for a part that has strings but does not read the input columns unchanged."""
    seen = {id(part) for part, _ in readers}
    for part in walk(estimator):
        if id(part) in seen or not (hasattr(part, "categories_") or hasattr(part, "statistics_")):
            continue
        if isinstance(getattr(part, "categories_", []), list) and any(map(_are_texts, _values(part))):
            raise InvalidSource(
                f"A {type(part).__name__} encodes strings that another step of the pipeline "
                "produces. Encode the columns of strings first, in a ColumnTransformer."
            )


def _used(estimator: Any, width: int) -> frozenset[int]:
    """Return the columns that a leading column transformer does not drop."""
    first = estimator
    while getattr(first, "steps", None):
        first = first.steps[0][1]
    if not hasattr(first, "_transformer_to_input_indices"):
        return frozenset(range(width))
    used: set[int] = set()
    for name, one, _ in first.transformers_:
        if not (isinstance(one, str) and one == "drop"):
            used.update(map(int, first._transformer_to_input_indices.get(name, ())))
    return frozenset(used)
