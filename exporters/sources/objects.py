"""Iterate over all objects below an estimator."""

from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

_PLAIN = (type, str, bytes, int, float)
_PLAIN_TYPES = frozenset(_PLAIN)


def walk(
    value: Any,
    attributes: Callable[[Any], dict[str, Any]] = lambda one: getattr(one, "__dict__", {}),
    arrays: bool = False,
) -> Iterator[Any]:
    """Yield the estimator and everything below it that has attributes, each once.

    ``attributes`` returns the attributes of an object; a result other than its ``__dict__`` leaves parts out.
    ``arrays``: yield the arrays too.
    """
    seen: set[int] = set()
    todo = [value]
    while todo:
        current = todo.pop()
        if id(current) in seen or isinstance(current, (*_PLAIN, FunctionType, np.ufunc)):
            continue
        seen.add(id(current))
        if isinstance(current, dict):
            todo += _more_than_plain(current.keys())
            todo += _more_than_plain(current.values())
            todo.append(getattr(current, "default_factory", None))
        elif isinstance(current, (list, tuple, set, frozenset)):
            todo += _more_than_plain(current)
        elif isinstance(current, slice):
            todo += [current.start, current.stop, current.step]
        elif isinstance(current, np.ndarray):
            if arrays:
                yield current
            # Without its mask: tolist() would give None for each element that the mask covers.
            todo += np.ma.getdata(current).ravel().tolist() if current.dtype.kind == "O" else []
        else:
            yield current
            todo += attributes(current).values()
            if hasattr(current, "tree_"):
                todo.append(current.tree_)


def _more_than_plain(values: Iterable[Any]) -> list[Any]:
    """Drop plain values: a vocabulary of 100,000 terms adds nothing to visit."""
    return [one for one in values if type(one) not in _PLAIN_TYPES]
