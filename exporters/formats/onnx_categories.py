"""Splits of trees by categories: writing and reading the extra columns that these splits compare."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from ..sources.trees import Tree
from .onnx_encoders import looked_up
from .onnx_nodes import Nodes

# Prefix of the name of a node that compares extra columns for categories; the number of real columns follows.
OF_CATEGORIES = "TreesOfCategories"
_MOST_CELLS = 1 << 22  # of a table of categories


class CategoryColumns:
    """Extra columns after the model's own, one for each set of categories that a node lists for a column.

    The value is 0 if the row goes left, 1 if it goes right, NaN if it is missing.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._strict, self._listed_left = trees[0].strict, trees[0].listed_left
        self._sets: dict[int, dict[bytes, npt.NDArray[np.int64]]] = defaultdict(dict)
        for tree in trees:
            for node, codes in tree.categories.items():
                self._sets[int(tree.feature[node])][codes.tobytes()] = codes
        keys = [(column, key) for column, sets in self._sets.items() for key in sets]
        self._place = {key: trees[0].width + place for place, key in enumerate(keys)}

    def features(self, tree: Tree) -> npt.NDArray[np.int64]:
        """Return the column that each node of a tree compares."""
        found = tree.feature.copy()
        for node, codes in tree.categories.items():
            found[node] = self._place[int(tree.feature[node]), codes.tobytes()]
        return found

    def beside(self, node: Nodes, rows: str, dtype: str) -> str:
        """Return the rows with these columns, as ``dtype``; the rows alone if there are no such columns."""
        if not self._sets:
            return rows
        rows = node("Cast", rows, to=dtype)
        parts = [rows]
        for column, sets in self._sets.items():
            known = np.unique(np.concatenate(list(sets.values())))
            if (len(known) + 2) * len(sets) > _MOST_CELLS:
                raise ConversionFailed(
                    f"The column {column} has more categories than a lookup table of this exporter can hold."
                )
            table = np.zeros((len(known) + 2, len(sets)))
            for place, codes in enumerate(sets.values()):
                table[np.searchsorted(known, codes), place] = 1.0
            table = 1 - table if self._listed_left else table
            table[-2] = np.nan
            value = self._whole(node, node.column(rows, column))
            value = node("Cast", value, to=node.dtype)
            found = looked_up(node, value, np.append(known.astype(float), np.nan), table)
            parts.append(node("Cast", found, to=dtype))
        return node("Concat", *parts, axis=1)

    def _whole(self, node: Nodes, value: str) -> str:
        """Round to a whole number: XGBoost rounds down, LightGBM towards zero."""
        if self._strict:
            return node("Floor", value)
        return node("Mul", node("Sign", value), node("Floor", node("Abs", value)))


class Listed(NamedTuple):
    """The meaning of an extra column.

    It has the model's column that the extra column is computed from, the listed categories, and whether these
    go left.
    """

    column: int
    codes: tuple[int, ...]
    left: bool


def read(model: Any, node: Any) -> dict[int, Listed]:
    """Return what each extra column lists that the trees of ``node`` compare.

    The graph itself computes the columns, for each category in one of its tables.

    Raises:
        ConversionFailed: a column has other values than 0, 1 and NaN, or depends on several columns.
    """
    width = re.match(rf"{OF_CATEGORIES}(\d+)_columns", node.name)
    return _Reading(model, node.input[0], int(width[1])).listed() if width else {}


class _Reading:
    """The part of a graph that computes the columns of categories from the rows."""

    def __init__(self, model: Any, result: str, width: int) -> None:
        makers = {name: one for one in model.graph.node for name in one.output}
        self._model, self._result, self._width = model, result, width
        self._rows: str = makers[result].input[0]
        self._kind = makers[self._rows].attribute[0].i  # it is a Cast
        wanted: set[str] = set()
        todo = [result]
        while todo:
            name = todo.pop()
            if name in makers and name != self._rows and name not in wanted:
                wanted.add(name)
                todo += makers[name].input
        self._nodes = [one for one in model.graph.node if one.output[0] in wanted]
        named = {name for one in self._nodes for name in one.input}
        self._constants = [one for one in model.graph.initializer if one.name in named]

    def listed(self) -> dict[int, Listed]:
        session, known = self._session(), self._codes()
        each = np.full((self._width, self._width), np.nan)
        np.fill_diagonal(each, -1.0)
        depends = ~np.isnan(self._columns(session, each))
        if (depends.sum(axis=0) != 1).any():
            raise ConversionFailed("A column of categories is not computed from a single column.")
        found: dict[int, Listed] = {}
        for column in np.flatnonzero(depends.any(axis=1)).tolist():
            rows = np.full((len(known) + 1, self._width), np.nan)
            rows[:, column] = np.append(known, -1.0)  # the last is no category
            columns = self._columns(session, rows)
            for place in np.flatnonzero(depends[column]).tolist():
                *sides, other = columns[:, place].tolist()
                if not {*sides, other} <= {0.0, 1.0}:
                    raise ConversionFailed("A column of categories has other values than 0 and 1.")
                codes = tuple(int(code) for code, side in zip(known, sides, strict=True) if side != other)
                found[self._width + place] = Listed(column, codes, other == 1.0)
        return found

    def _session(self) -> Any:
        import onnxruntime
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            "categories",
            [helper.make_tensor_value_info(self._rows, self._kind, [None, self._width])],
            [helper.make_tensor_value_info(self._result, self._kind, None)],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        model.ir_version = self._model.ir_version
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def _codes(self) -> npt.NDArray[np.float64]:
        """Return the values that the graph compares with."""
        from onnx import numpy_helper

        constants = {one.name: one for one in self._constants}
        compared = [
            numpy_helper.to_array(constants[name]).ravel().astype(np.float64)
            for one in self._nodes
            if one.op_type == "Equal"
            for name in one.input
            if name in constants
        ]
        found = np.unique(np.concatenate(compared))
        return np.asarray(found[np.isfinite(found)])

    def _columns(self, session: Any, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        from onnx import helper

        given = rows.astype(helper.tensor_dtype_to_np_dtype(self._kind))
        return np.asarray(session.run(None, {self._rows: given})[0], np.float64)[:, self._width :]
