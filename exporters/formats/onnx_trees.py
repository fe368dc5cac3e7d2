"""Set every tree node of an ONNX graph to the threshold and the missing branch of the source's own tree.

The converters of skl2onnx and onnxmltools round a float64 threshold to the nearest float32, which may be on
the other side of a value, and drop the branch of a missing value. Both are taken from the source's tables.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from ..sources.trees import LEAF, LIGHTGBM_ZERO, Tree, fitted_trees, preorder
from . import onnx_categories

_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto.DataType
_DOMAIN = "ai.onnx.ml"
_ENSEMBLES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_UNKNOWN = "The converter wrote trees that the model does not have, so their nodes cannot be compared."
_STRICT = {b"BRANCH_LEQ": False, b"BRANCH_LT": True}  # mode of a node → whether an equal value goes right


def repair(model: Any, estimator: Any, *, double: bool) -> int:
    """Set the threshold and the missing branch of every tree node to the source's; return their number.

    ``double``: the graph computes in float64. Then a tree of a library that compares float32 casts its input
    first.

    Raises:
        ConversionFailed: a tree of the graph is not in the source.
    """
    ensembles = [one for one in model.graph.node if one.domain == _DOMAIN and one.op_type in _ENSEMBLES]
    if not ensembles:
        return 0
    known: dict[bytes, list[Tree]] = defaultdict(list)
    for tree in fitted_trees(estimator):
        known[tree.structure].append(tree)
    return sum(_repair_ensemble(model, node, known, double=double) for node in ensembles)


def _repair_ensemble(model: Any, node: Any, known: dict[bytes, list[Tree]], *, double: bool) -> int:
    attributes = {one.name: one for one in node.attribute}
    if "nodes_values" not in attributes:
        raise ConversionFailed(_UNKNOWN)
    thresholds = np.array(attributes["nodes_values"].floats, np.float64)
    missing = np.zeros(len(thresholds), np.int64)
    if "nodes_missing_value_tracks_true" in attributes:
        missing[:] = attributes["nodes_missing_value_tracks_true"].ints
    found: list[Tree] = []
    sets = onnx_categories.read(model, node)
    for written in _trees(attributes, sets):
        places = written.places
        tree = _closest(known.get(written.structure, []), thresholds[places], written)
        if tree is None:
            raise ConversionFailed(_UNKNOWN)
        found.append(tree)
        inner = _compares_numbers(tree)
        thresholds[places[inner]] = tree.threshold[inner]
        missing[places] = tree.missing_left
    wide = double and all(tree.compares == "float64" for tree in found)
    _set_missing(node, attributes, missing)
    _set_thresholds(node, attributes, thresholds, strict=found[0].strict, wide=wide)
    _mark_zeros(model.graph, node, found, len(sets))
    if double:
        _cast_input(model.graph, node, _DOUBLE if wide else _FLOAT)
    return len(thresholds)


class _Written(NamedTuple):
    """A tree of the graph.

    It has the tree's positions in the attributes in preorder, whether it compares strictly, and the
    categories that its nodes list, with whether these go left. ``structure`` is that of ``Tree``.
    """

    places: npt.NDArray[np.int64]
    structure: bytes
    strict: bool
    categories: dict[int, tuple[tuple[int, ...], bool]]


def _trees(attributes: dict[str, Any], sets: Mapping[int, onnx_categories.Listed]) -> Iterator[_Written]:
    """Yield each tree.

    Raises:
        ConversionFailed: its nodes compare in several ways, or in an unknown one.
    """
    modes = list(attributes["nodes_modes"].strings)
    columns = {
        name: np.array(attributes[f"nodes_{name}"].ints, np.int64)
        for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    }
    bounds = np.flatnonzero(np.r_[True, np.diff(columns["treeids"]) != 0, True])
    for start, end in itertools.pairwise(bounds.tolist()):
        inside = slice(start, end)
        used = {mode for mode in modes[inside] if mode != b"LEAF"}
        if len(used) > 1 or not used <= set(_STRICT):
            raise ConversionFailed(_UNKNOWN)
        place_of = {node: place for place, node in enumerate(columns["nodeids"][inside].tolist())}
        leaf = [mode == b"LEAF" for mode in modes[inside]]
        left, right = (
            [
                0 if is_leaf else place_of[child]
                for child, is_leaf in zip(columns[side][inside].tolist(), leaf, strict=True)
            ]
            for side in ("truenodeids", "falsenodeids")
        )
        order, _ = preorder(left, right, leaf)
        places = np.array(order, np.int64) + start
        feature = np.where(np.array(leaf)[order], LEAF, columns["featureids"][places]).astype(np.int64)
        categories = {}
        for node in np.flatnonzero(np.isin(feature, list(sets))).tolist() if sets else ():
            listed = sets[int(feature[node])]
            feature[node], categories[node] = listed.column, (listed.codes, listed.left)
        strict = _STRICT[next(iter(used), b"BRANCH_LEQ")]
        yield _Written(places, feature.tobytes(), strict, categories)


def _compares_numbers(tree: Tree) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = tree.feature != LEAF
    found[list(tree.categories)] = False
    return found


def _closest(candidates: list[Tree], thresholds: npt.NDArray[np.float64], written: _Written) -> Tree | None:
    """Return the source's tree with these thresholds, up to a converter's rounding.

    The tree moves to the end of ``candidates``, so that the next equal tree is matched to the source's next
    one.
    """
    best, least = None, np.inf
    for tree in candidates:
        inner = _compares_numbers(tree)
        listed = {node: (tuple(codes.tolist()), tree.listed_left) for node, codes in tree.categories.items()}
        if ((tree.feature != LEAF).any() and tree.strict != written.strict) or listed != written.categories:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = tree.threshold[inner].astype(np.float32).astype(np.float64)
            apart = np.abs(thresholds[inner] - rounded)
        apart[thresholds[inner] == rounded] = 0.0  # infinite ones too
        worst = float((apart / np.maximum(np.abs(rounded), 1e-30)).max(initial=0.0))
        if worst < least:
            best, least = tree, worst
    if best is None or least >= 1e-5:
        return None
    candidates.sort(key=lambda tree: tree is best)
    return best


def _set_missing(node: Any, attributes: dict[str, Any], missing: npt.NDArray[np.int64]) -> None:
    from onnx import helper

    name = "nodes_missing_value_tracks_true"
    if name in attributes:
        node.attribute.remove(attributes[name])
    node.attribute.append(helper.make_attribute(name, missing.tolist()))


def _set_thresholds(
    node: Any, attributes: dict[str, Any], thresholds: npt.NDArray[np.float64], *, strict: bool, wide: bool
) -> None:
    from onnx import helper, numpy_helper

    node.attribute.remove(attributes["nodes_values"])
    if wide:
        tensor = numpy_helper.from_array(thresholds)
        node.attribute.append(helper.make_attribute("nodes_values_as_tensor", tensor))
        return
    narrow = narrowed(thresholds, strict=strict)
    node.attribute.append(helper.make_attribute("nodes_values", narrow.astype(float).tolist()))


def narrowed(thresholds: npt.NDArray[np.float64], *, strict: bool) -> npt.NDArray[np.float32]:
    """Return float32 thresholds that send each float32 value the way that ``thresholds`` send it.

    They are rounded down for ``<=``, and up for ``<`` (``strict``).
    """
    with np.errstate(over="ignore"):
        narrow = thresholds.astype(np.float32)
    wrong = narrow < thresholds if strict else narrow > thresholds
    toward = np.float32(np.inf if strict else -np.inf)
    return np.where(wrong, np.nextafter(narrow, toward), narrow).astype(np.float32)


def _mark_zeros(graph: Any, node: Any, found: list[Tree], more: int) -> None:
    """Apply LightGBM's ``zero_as_missing``: add nodes that replace zero by NaN in the columns of such splits.

    ``more``: the number of columns that follow the model's own.
    """
    governed = np.zeros(found[0].width + more, bool)
    for tree in found:
        governed[tree.feature[tree.zero_missing]] = True
    if not governed.any():
        return
    from onnx import helper, numpy_helper

    given, name = node.input[0], f"{node.output[0]}_zero"
    constants = {
        "columns": governed,
        "bound": np.array(LIGHTGBM_ZERO, np.float32),
        "missing": np.array(np.nan, np.float32),
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, f"{name}_{key}") for key, value in constants.items()
    )
    steps = [
        helper.make_node("Cast", [given], [f"{name}_float"], to=_FLOAT),
        helper.make_node("Abs", [f"{name}_float"], [f"{name}_size"]),
        helper.make_node("LessOrEqual", [f"{name}_size", f"{name}_bound"], [f"{name}_small"]),
        helper.make_node("And", [f"{name}_small", f"{name}_columns"], [f"{name}_is"]),
        helper.make_node("CastLike", [f"{name}_missing", given], [f"{name}_nan"]),
        helper.make_node("Where", [f"{name}_is", f"{name}_nan", given], [f"{name}_marked"]),
    ]
    _insert_before(graph, node, steps, f"{name}_marked")


def _cast_input(graph: Any, node: Any, dtype: int) -> None:
    from onnx import helper

    cast = f"{node.output[0]}_compared"
    _insert_before(graph, node, [helper.make_node("Cast", [node.input[0]], [cast], to=dtype)], cast)


def _insert_before(graph: Any, node: Any, steps: list[Any], result: str) -> None:
    place = list(graph.node).index(node)
    for offset, step in enumerate(steps):
        graph.node.insert(place + offset, step)
    graph.node[place + len(steps)].input[0] = result
