"""Encoders of categories that are numbers, as ONNX operators.

An encoder of skl2onnx casts a number to an integer first, so that 0.4 counts as the category 0. Here a number
is compared with the categories themselves, and a table that the encoder filled maps each category to its
code.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from .onnx_nodes import Nodes

Numbers = npt.NDArray[np.float64]

_MOST_CELLS = 1 << 24  # of an encoder's table


def encoder(scope: Any, operator: Any, container: Any) -> None:
    """Convert OneHotEncoder, OrdinalEncoder and TargetEncoder of numbers."""
    node = Nodes(scope, operator, container)
    node.finish(encoded(node, operator.raw_operator, node.joined(operator)), operator)


def encoded(node: Nodes, fitted: Any, rows: str) -> str:
    """Return the rows after encoding."""
    parts = []
    for place, table in enumerate(_tables(fitted)):
        value = node.column(rows, place)
        parts.append(looked_up(node, value, np.asarray(fitted.categories_[place], np.float64), table))
    return node("Concat", *parts, axis=1)


def looked_up(node: Nodes, value: str, keys: Numbers, table: Numbers) -> str:
    """Return, for each of ``value`` [N, 1], the row of ``table`` [K + 1, columns] at its key in [K].

    The last row belongs to every other value. NaN is a key like others.
    """
    # A key that the graph's float dtype cannot represent equals no value.
    exact = np.where(keys.astype(node.dtype).astype(np.float64) == keys, keys, np.nan)[None]
    equal = node("Equal", value, exact)
    if np.isnan(keys).any():
        equal = node("Or", equal, node("And", node("IsNaN", value), np.isnan(keys)[None]))
    found = node("Cast", equal, to="float32")
    place = node("ArgMax", found, axis=1, keepdims=0)
    none = node("Not", node("Cast", node("MatMul", found, _ones(node, len(keys))), to="bool"))
    none = node("Reshape", node("Cast", none, to="int64"), np.array([-1]))
    place = node("Add", place, node("Mul", none, np.array([len(keys)])))
    return node("Gather", table, place, axis=0)


def _ones(node: Nodes, count: int) -> str:
    return node("Cast", np.ones((count, 1), np.int64), to="float32")


def _tables(encoder: Any) -> Iterator[Numbers]:
    """Yield, per column, the codes of its categories; the last row has the code of all other values.

    The encoder computes them itself, so that its rules for infrequent, dropped, missing and unknown
    categories apply.
    """
    categories = [np.asarray(one) for one in encoder.categories_]
    start = 0
    for place, (known, width) in enumerate(zip(categories, widths(encoder), strict=True)):
        if len(known) * width > _MOST_CELLS:
            raise ConversionFailed(
                f"A column has {len(known):,} categories, more than a lookup table of this exporter can hold."
            )
        rows = np.array([[one[0] for one in categories]] * (len(known) + 1), dtype=np.float64)
        finite = known[np.isfinite(known.astype(float))]
        rows[:-1, place] = known
        rows[-1, place] = finite.max() + 1 if len(finite) else 0.0
        filled = np.full((len(rows), width), np.nan)
        kept = slice(None, -1) if encoder.__dict__.get("handle_unknown") == "error" else slice(None)
        values = encoder.transform(rows[kept])
        values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        filled[kept] = values[:, start : start + width]
        start += width
        yield filled


def widths(encoder: Any) -> list[int]:
    count = len(encoder.categories_)
    if type(encoder).__name__ == "OneHotEncoder":
        return [int(one) for one in encoder._n_features_outs]
    if type(encoder).__name__ == "TargetEncoder":
        return [len(encoder.encodings_) // count] * count
    return [1] * count
