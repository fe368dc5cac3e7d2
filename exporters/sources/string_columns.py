"""Columns of strings in a table: read unchanged by encoders and imputers, whose categories become indices."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidSource
from .columns import keeps_values, members
from .objects import walk

Places = npt.NDArray[np.int64]
Categories = tuple[str, ...] | None
_ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")


def of(estimator: Any, names: Sequence[str]) -> tuple[tuple[Categories, ...], tuple[Any, ...]]:
    """Return, per column, its categories or None, and the estimator's form of a missing string.

    Raises:
        InvalidSource: strings that cannot be replaced by indices of categories, with the cause.
    """
    readers = list(_readers(estimator, np.arange(len(names))))
    lists: list[list[list[Any]]] = [[] for _ in names]
    missing: list[Any] = [None] * len(names)
    for part, columns in readers:
        for place, values in zip(columns.tolist(), _values(part), strict=True):
            if _are_texts(values):
                lists[place].append([value for value in values.tolist() if not _is_missing(value)])
                missing[place] = _marker(part, values, missing[place])
    categories = [_in_order(name, found) if found else None for name, found in zip(names, lists, strict=True)]
    _refuse_others(estimator, readers)
    return tuple(categories), tuple(missing)


def replace(program: Any, categories: Sequence[Categories]) -> None:
    """Replace the strings in the encoders and imputers of the program by indices of their categories."""
    for part, columns in _readers(program, np.arange(len(categories))):
        _write_places(part, [categories[place] for place in columns.tolist()])


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


def _write_places(part: Any, texts: list[Categories]) -> None:
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
