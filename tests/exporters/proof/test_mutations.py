"""200 artefacts damaged on purpose: the verifier finds them, or no row tells them from the whole."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from exporters.base import FAILED, Source
from exporters.convert import run
from exporters.proof import cases
from exporters.proof.verify import compare
from exporters.request import ExportRequest
from exporters.runners.onnx import OnnxRunner
from exporters.sources import load

Damage = tuple[str, Callable[[onnx.ModelProto], None]]

_RANDOM = np.random.default_rng(0)
NUMBERS = _RANDOM.normal(size=(400, 4)) * 3
GAPS = np.where(_RANDOM.random(NUMBERS.shape) < 0.1, np.nan, NUMBERS)
KINDS = np.digitize(NUMBERS[:, 0] + NUMBERS[:, 1] * NUMBERS[:, 2], [-3, 3])
CODES = np.c_[_RANDOM.choice([3, 5, 11, 12], 400), _RANDOM.integers(0, 6, 400), NUMBERS[:, :1]].astype(float)
BY_CODE = ((CODES[:, 0] == 5) + (CODES[:, 1] % 3)).astype(int)

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "forest": lambda: RandomForestClassifier(3, max_depth=5, random_state=0).fit(GAPS, KINDS),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=3, random_state=0).fit(NUMBERS, KINDS),
    "tree": lambda: DecisionTreeRegressor(max_depth=6).fit(GAPS, NUMBERS[:, 0]),
    "line": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS, KINDS),
    "network": lambda: MLPClassifier((5, 5), max_iter=80, random_state=0).fit(NUMBERS, KINDS),
    "codes": lambda: make_pipeline(
        ColumnTransformer(
            [("codes", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("number", StandardScaler(), [2])]
        ),
        LogisticRegression(),
    ).fit(CODES, BY_CODE),
    "order": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(CODES[:, :2]),
}
NETWORKS = ("conv-pt2", "mlp-pt2")
# Of each model as many of each kind, where it has so many places.
EACH = {"threshold": 24, "missing branch": 16, "leaf": 16, "weight": 12, "axis": 4, "bias": 4, "category": 12}


def _attribute(node: Any, name: str) -> Any:
    return next((one for one in node.attribute if one.name == name), None)


def _ensembles(model: onnx.ModelProto) -> list[Any]:
    return [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]


def _in_trees(kind: str, number: int, place: int) -> Callable[[onnx.ModelProto], None]:
    def damage(model: onnx.ModelProto) -> None:
        node = _ensembles(model)[number]
        if kind == "threshold":
            values = _attribute(node, "nodes_values").floats
            values[place] = np.nextafter(np.float32(values[place]), np.float32(np.inf))
        elif kind == "missing branch":
            ints = _attribute(node, "nodes_missing_value_tracks_true").ints
            ints[place] = 1 - ints[place]
        else:
            leaves = _attribute(node, "class_weights") or _attribute(node, "target_weights")
            leaves.floats[place] += 0.05 * max(map(abs, leaves.floats))

    return damage


def _in_constant(name: str, change: Callable[[Any], Any]) -> Callable[[onnx.ModelProto], None]:
    def damage(model: onnx.ModelProto) -> None:
        (tensor,) = [one for one in model.graph.initializer if one.name == name]
        array = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(array)), name))

    return damage


def _label_as_int32(model: onnx.ModelProto) -> None:
    for output in model.graph.output:
        if output.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            for node in model.graph.node:
                node.output[:] = [f"{one}_wide" if one == output.name else one for one in node.output]
            model.graph.node.append(
                helper.make_node("Cast", [f"{output.name}_wide"], [output.name], to=onnx.TensorProto.INT32)
            )
            output.type.tensor_type.elem_type = onnx.TensorProto.INT32


def _labels_swapped(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        labels = _attribute(node, "classlabels_int64s") or _attribute(node, "classlabels_ints")
        if labels is not None:
            labels.ints[0], labels.ints[1] = labels.ints[1], labels.ints[0]
            return
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "i" and sorted(array.ravel().tolist()) == [0, 1, 2]:
            swapped = array.ravel()[[1, 0, 2]].reshape(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))
            return
    raise LookupError("no labels")


def _step(array: npt.NDArray[Any], place: int) -> npt.NDArray[Any]:
    array.flat[place] += 0.1 * np.abs(array).max()
    return array


def _places(kind: str, model: onnx.ModelProto, random: np.random.Generator) -> Iterator[Damage]:
    """Each place where a damage of this kind is possible, in random order."""
    if kind in ("threshold", "missing branch", "leaf"):
        for number, node in enumerate(_ensembles(model)):
            modes = _attribute(node, "nodes_modes").strings
            leaves = _attribute(node, "class_weights") or _attribute(node, "target_weights")
            inner = [place for place, mode in enumerate(modes) if mode != b"LEAF"]
            for place in random.permutation(len(leaves.floats) if kind == "leaf" else inner).tolist():
                yield kind, _in_trees(kind, number, place)
        return
    constants = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    readers = {name: node for node in model.graph.node for name in node.input}
    for tensor in (constants[place] for place in random.permutation(len(constants))):
        array, reader = numpy_helper.to_array(tensor), readers.get(tensor.name)
        operator = reader.op_type if reader is not None else ""
        if kind == "category" and operator == "Equal":
            for place in range(array.size):
                yield (
                    kind,
                    _in_constant(tensor.name, lambda one, place=place: one + np.eye(1, one.size, place)),
                )
        elif kind == "weight" and array.ndim > 1 and operator in ("MatMul", "Gemm", "Conv"):
            for place in random.permutation(array.size).tolist():
                yield kind, _in_constant(tensor.name, lambda one, place=place: _step(one, place))
        elif kind == "axis" and array.ndim > 1 and array.shape[-1] == array.shape[-2] > 1:
            yield kind, _in_constant(tensor.name, lambda one: one.swapaxes(-1, -2))
        elif kind == "bias" and array.size > 1 and operator in ("Add", "Gemm", "Conv") and array.any():
            flat = array.ndim == 1 or array.shape[0] == 1
            if flat:
                yield kind, _in_constant(tensor.name, np.zeros_like)


def _damages(model: onnx.ModelProto, random: np.random.Generator) -> Iterator[Damage]:
    for kind, most in EACH.items():
        for number, damage in enumerate(_places(kind, model, random)):
            if number == most:
                break
            yield damage
    if any(one.type.tensor_type.elem_type == onnx.TensorProto.INT64 for one in model.graph.output):
        yield "int32", _label_as_int32
        yield "label", _labels_swapped


def _runner(model: onnx.ModelProto) -> OnnxRunner:
    return OnnxRunner(onnxruntime.InferenceSession(model.SerializeToString()))


def _independent(source: Source, random: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Rows that the verifier did not make: of the training data, with missing values."""
    spec = source.inputs[0]
    if len(spec.shape) != 2:
        return {spec.name: random.normal(size=(500, *spec.shape[1:])).astype(spec.dtype)}
    table = {3: CODES, 2: CODES[:, :2], 4: GAPS}.get(int(spec.shape[1]), random.normal(size=(999, 6)))
    rows = table[random.integers(0, len(table), 20_000)] + random.normal(size=(20_000, 1)) * 1e-3
    hit = random.random(rows.shape) < 0.05
    gaps = {spec.name: np.where(hit, np.nan, rows).astype(spec.dtype)}
    try:
        source.reference(gaps)
    except ValueError:  # it takes no missing value
        return {spec.name: np.nan_to_num(rows).astype(spec.dtype)}
    return gaps


def _differs(model: onnx.ModelProto, whole: OnnxRunner, rows: dict[str, npt.NDArray[Any]]) -> bool:
    right, wrong = whole.predict(rows), _runner(model).predict(rows)
    return not all(
        right[name].dtype == wrong[name].dtype
        and np.allclose(right[name], wrong[name], rtol=1e-3, atol=1e-4, equal_nan=True)
        for name in right
    )


def test_damaged_artefacts_are_not_verified(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    found: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    harmful_and_missed = []
    for name in (*ESTIMATORS, *NETWORKS):
        path = tmp_path / f"{name}.joblib"
        if name in ESTIMATORS:
            joblib.dump(ESTIMATORS[name](), path)
        else:
            path = checkpoint(name)
        result = run(ExportRequest(path, tmp_path / name, "onnx"))
        assert result.verdict == "verified"
        source = load(path, {})
        asked = cases.plan(source)
        model = onnx.load(tmp_path / name / "model.onnx")
        whole, rows = _runner(model), _independent(source, random)
        for kind, damage in _damages(model, random):
            damaged = onnx.ModelProto()
            damaged.CopyFrom(model)
            damage(damaged)
            try:
                runner = _runner(damaged)
            except Exception:  # it does not even load
                found[kind] += 1
                continue
            if compare(asked, runner.predict, labels=source.labels)["verdict"] == FAILED:
                found[kind] += 1
                continue
            missed[kind] += 1
            if _differs(damaged, whole, rows):
                harmful_and_missed.append((name, kind))
    assert harmful_and_missed == []
    assert found.total() >= 200
    assert set(found) == {*EACH, "int32", "label"}
