"""Tabular models on the rows that people have: missing values, values on a threshold, zeros."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import xgboost
from onnx import numpy_helper
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from exporters import runners
from exporters.base import FAILED
from exporters.convert import run
from exporters.errors import ConversionFailed
from exporters.formats import estimator_to_onnx, onnx_trees
from exporters.formats.onnx_trees import narrowed
from exporters.proof import cases
from exporters.proof.verify import compare
from exporters.request import ExportRequest
from exporters.sources.estimators import as_source

_RANDOM = np.random.default_rng(0)
COUNTS = _RANDOM.integers(0, 20, (600, 6)).astype(float)
KINDS = (COUNTS[:, 0] * COUNTS[:, 1] > 90).astype(int) + (COUNTS[:, 2] > 7)
GAPS = np.where(_RANDOM.random(COUNTS.shape) < 0.1, np.nan, COUNTS + _RANDOM.normal(size=COUNTS.shape) * 0.3)


def verified(estimator: Any, folder: Path) -> runners.Runner:
    """The artefact of an export that must be verified."""
    joblib.dump(estimator, folder / "model.joblib")
    result = run(ExportRequest(folder / "model.joblib", folder / "package", "onnx", allow_unsafe=True))
    assert result.verdict == "verified"
    return runners.load(folder / "package")


def answers(runner: runners.Runner, rows: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
    return runner.predict({"input": np.asarray(rows, np.float32)})


def test_a_missing_value_takes_the_branch_of_the_source(tmp_path: Path) -> None:
    rows = [[0], [1], [2], [np.nan], [np.nan]]
    tree = DecisionTreeClassifier(random_state=0).fit(rows, [0, 0, 1, 0, 0])

    answer = answers(verified(tree, tmp_path), [[np.nan]])

    assert answer["probabilities"].tolist() == [[1.0, 0.0]]
    assert answer["label"].tolist() == [0]


def test_a_scaler_before_trees_computes_in_float64(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=10)).fit(COUNTS, KINDS)

    answer = answers(verified(model, tmp_path), COUNTS)

    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(COUNTS), atol=1e-5)
    assert (answer["label"] == model.predict(COUNTS)).all()


def test_zero_is_missing_where_lightgbm_was_told_so(tmp_path: Path) -> None:
    rows, targets = np.array([[-2.0], [-1], [0], [0], [1], [2]] * 20), [0, 0, 9, 9, 1, 1] * 20
    model = lightgbm.LGBMRegressor(
        n_estimators=20, zero_as_missing=True, min_child_samples=2, verbose=-1
    ).fit(rows, targets)

    answer = answers(verified(model, tmp_path), [[0.0], [-0.0], [1e-40], [np.nan], [1e-30]])["variable"]

    assert answer[:4, 0] == pytest.approx(8.311, abs=1e-3)
    expected = model.predict(np.array([[0.0], [-0.0], [1e-40], [np.nan], [1e-30]]))
    np.testing.assert_allclose(answer[:, 0], expected, rtol=1e-5)


def test_lightgbm_reads_a_number_beside_zero_as_zero(tmp_path: Path) -> None:
    """Its thresholds beside zero are such numbers themselves."""
    beside = np.float32(1e-35)
    rows = np.repeat([[-3.0], [-2], [-1], [0], [1], [2]], 30, axis=0)
    model = lightgbm.LGBMRegressor(n_estimators=3, min_child_samples=2, verbose=-1).fit(rows, rows[:, 0] < 0)
    asked = [[-beside], [beside], [0.0], [-1.0], [np.nextafter(-beside, np.float32(-1))]]

    answer = answers(verified(model, tmp_path), asked)["variable"]

    np.testing.assert_allclose(answer[:, 0], model.predict(np.array(asked, float)), rtol=1e-5)
    assert answer[0] == answer[2] != answer[3]


def test_a_value_next_to_a_threshold_stays_on_its_side(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(0, 1, 0.1), 30)[:, None]
    model = HistGradientBoostingRegressor(max_iter=5).fit(rows, (rows[:, 0] > 0.15).astype(float))

    answer = answers(verified(model, tmp_path), [[np.float32(0.15)]])["variable"]

    assert answer[0, 0] == pytest.approx(0.8819, abs=1e-4)


def test_a_stored_estimator_keeps_the_dtype_that_it_was_fitted_on(tmp_path: Path) -> None:
    """In float32 it answers other rows than the source: thresholds lie between two float32 values."""
    rows = np.round(_RANDOM.normal(size=(600, 3)), 2)
    model = HistGradientBoostingRegressor(max_iter=20).fit(rows, np.floor(rows[:, 0] * 50) % 3)
    joblib.dump(model, tmp_path / "model.joblib")
    run(ExportRequest(tmp_path / "model.joblib", tmp_path / "package", "pickle"))

    runner = runners.load(tmp_path / "package")

    assert [spec.dtype for spec in runner.inputs] == ["float64"]
    answer = runner.predict({"input": rows})["variable"][:, 0]
    assert (answer == model.predict(rows).astype(np.float32)).all()
    narrow = model.predict(rows.astype(np.float32)).astype(np.float32)
    assert (narrow != answer).any()


WITH_GAPS: dict[str, Any] = {
    "tree": DecisionTreeRegressor(max_depth=6),
    "forest": RandomForestClassifier(4, random_state=0),
    "forest of numbers": RandomForestRegressor(4, random_state=0),
    "extra trees": ExtraTreesClassifier(4, random_state=0),
    "bagging": BaggingClassifier(n_estimators=3, random_state=0),
    "vote": VotingClassifier(
        [("tree", DecisionTreeClassifier()), ("forest", RandomForestClassifier(3))], voting="soft"
    ),
    "stack": StackingClassifier([("tree", DecisionTreeClassifier()), ("forest", RandomForestClassifier(3))]),
    "isolation forest": IsolationForest(n_estimators=4, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=4),
    "scaled histogram boosting": make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=4)),
    "XGBoost": xgboost.XGBClassifier(n_estimators=4),
    "LightGBM": lightgbm.LGBMClassifier(n_estimators=4, verbose=-1),
    "LightGBM, zero missing": lightgbm.LGBMRegressor(n_estimators=4, zero_as_missing=True, verbose=-1),
}


@pytest.mark.parametrize("name", WITH_GAPS)
def test_rows_with_gaps_are_answered_as_by_the_source(name: str, tmp_path: Path) -> None:
    source = as_source(WITH_GAPS[name].fit(GAPS, KINDS))
    rows = GAPS.astype(np.float32)

    answer = answers(verified(source.program, tmp_path), rows)

    for output, expected in source.reference({"input": rows}).items():
        np.testing.assert_allclose(answer[output], expected, rtol=1e-4, atol=1e-5, err_msg=output)


CODES = np.c_[_RANDOM.choice([3, 5, 11], 600), _RANDOM.integers(0, 30, 600)].astype(float)
CODES_WITH_GAPS = np.where(CODES == 5, np.nan, CODES)
STEPS: dict[str, tuple[Any, Any]] = {
    "power": (PowerTransformer(), GAPS),
    "power above zero": (PowerTransformer("box-cox"), np.abs(GAPS) + 1),
    "codes": (make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), CODES),
    "codes with gaps": (OneHotEncoder(handle_unknown="ignore", drop="first"), CODES_WITH_GAPS),
    "rare codes": (OneHotEncoder(min_frequency=22, handle_unknown="infrequent_if_exist"), CODES),
    "order": (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=-2),
        CODES_WITH_GAPS,
    ),
    "target": (TargetEncoder(), CODES_WITH_GAPS),
    "bins": (KBinsDiscretizer(4, encode="ordinal"), np.nan_to_num(GAPS)),
    "bins, one each": (KBinsDiscretizer(4), np.nan_to_num(GAPS)),
    "another missing value": (
        SimpleImputer(missing_values=-1, strategy="median"),
        np.nan_to_num(GAPS, nan=-1),
    ),
    "told that it was missing": (SimpleImputer(add_indicator=True), GAPS),
    "filled in before a forest": (
        make_pipeline(SimpleImputer(), StandardScaler(), RandomForestClassifier(4, random_state=0)),
        GAPS,
    ),
    "norm": (make_pipeline(Normalizer(), LogisticRegression()), COUNTS),
    "scaled isolation forest": (
        make_pipeline(StandardScaler(), IsolationForest(n_estimators=4, random_state=0)),
        COUNTS,
    ),
    "scaled AdaBoost": (make_pipeline(StandardScaler(), AdaBoostClassifier(n_estimators=4)), COUNTS),
    "scaled vote": (
        make_pipeline(
            StandardScaler(),
            VotingRegressor([("tree", DecisionTreeRegressor(max_depth=5)), ("line", Ridge())]),
        ),
        COUNTS,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_answers_as_the_source_on_missing_unknown_and_huge_values(name: str, tmp_path: Path) -> None:
    model, rows = STEPS[name]
    source = as_source(model.fit(rows, KINDS))
    random = np.random.default_rng(3)
    given = rows[random.integers(0, len(rows), 200)].astype(np.float32)
    for value in (np.nan, 0.0, -0.0, 1e-40, 1e30, -1e30, 4.0, 0.5):
        hit = random.random(given.shape) < 0.04
        given[hit] = value
    accepted = []
    for row in given:
        try:
            source.reference({"input": row[None]})
        except ValueError:
            continue
        accepted.append(row)
    assert len(accepted) > 40

    answer = answers(verified(source.program, tmp_path), accepted)

    for output, expected in source.reference({"input": np.array(accepted)}).items():
        np.testing.assert_allclose(answer[output], expected, rtol=1e-3, atol=1e-5, err_msg=output)


def _damage_threshold(node: Any, place: int) -> None:
    values = next(one for one in node.attribute if one.name == "nodes_values").floats
    values[place] = np.nextafter(np.float32(values[place]), np.float32(np.inf))


def _damage_missing(node: Any, place: int) -> None:
    tracks = next(one for one in node.attribute if one.name == "nodes_missing_value_tracks_true").ints
    tracks[place] = 1 - tracks[place]


@pytest.mark.parametrize("damage", [_damage_threshold, _damage_missing])
def test_every_damaged_node_is_found(damage: Callable[[Any, int], None], tmp_path: Path) -> None:
    """But for those that no row can tell from the whole one, like one that a missing value never reaches."""
    source = as_source(RandomForestClassifier(3, max_depth=5, random_state=0).fit(GAPS, KINDS))
    asked = cases.plan(source)
    verified(source.program, tmp_path)
    model = onnx.load(tmp_path / "package" / "model.onnx")
    whole = model.SerializeToString()
    (ensemble,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    modes = next(one for one in ensemble.attribute if one.name == "nodes_modes").strings
    inner = [place for place, mode in enumerate(modes) if mode != b"LEAF"]
    rows = _near_thresholds(source.program)
    right = runners.open_artefact("onnx", tmp_path / "package" / "model.onnx").predict({"input": rows})
    missed, harmful = [], 0
    for place in inner:
        model.ParseFromString(whole)
        (ensemble,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
        damage(ensemble, place)
        onnx.save(model, tmp_path / "damaged.onnx")
        runner = runners.open_artefact("onnx", tmp_path / "damaged.onnx")
        wrong = runner.predict({"input": rows})["probabilities"]
        if not np.allclose(wrong, right["probabilities"], atol=1e-3):
            harmful += 1
            if compare(asked, runner.predict, labels=source.labels)["verdict"] != FAILED:
                missed.append(place)
    assert harmful > 0.7 * len(inner)
    assert missed == []


def _move_threshold(node: Any, place: int) -> None:
    next(one for one in node.attribute if one.name == "nodes_values").floats[place] += 0.05


LISTED = np.c_[_RANDOM.integers(0, 12, 900) * 3, _RANDOM.normal(size=(900, 3)), _RANDOM.integers(0, 40, 900)]
LISTED = np.where(_RANDOM.random(LISTED.shape) < 0.05, np.nan, LISTED)
BY_LIST = np.isin(LISTED[:, 0], [3, 12, 21]) * 3 + np.nan_to_num(LISTED[:, 1]) + (LISTED[:, 4] % 7 == 2)
OF_CATEGORIES: dict[str, Callable[[], Any]] = {
    "XGBoost": lambda: xgboost.XGBRegressor(
        n_estimators=3, max_depth=4, enable_categorical=True, feature_types=list("cqqqc")
    ).fit(LISTED, BY_LIST),
    "LightGBM": lambda: lightgbm.LGBMRegressor(n_estimators=3, min_child_samples=5, verbose=-1).fit(
        LISTED, BY_LIST, categorical_feature=[0, 4]
    ),
    "histogram boosting": lambda: HistGradientBoostingRegressor(
        max_iter=3, max_leaf_nodes=16, categorical_features=[0, 4]
    ).fit(LISTED, BY_LIST),
}


@pytest.mark.parametrize("name", OF_CATEGORIES)
def test_every_damaged_node_and_category_is_found(name: str, tmp_path: Path) -> None:
    """Of trees that compare numbers and categories."""
    source = as_source(OF_CATEGORIES[name]())
    asked = cases.plan(source)
    verified(source.program, tmp_path)
    assert source.coverage["reached"] >= 0.98 * source.coverage["splits"]
    whole = onnx.load(tmp_path / "package" / "model.onnx")
    random = np.random.default_rng(2)
    rows = LISTED[random.integers(0, len(LISTED), 8_000)].astype(np.float32)
    rows[:, 0] = random.integers(-1, 40, len(rows))
    right = runners.open_artefact("onnx", tmp_path / "package" / "model.onnx").predict({"input": rows})
    missed, harmful, kinds = [], 0, set()
    for kind, damaged in _damaged_categories(whole):
        onnx.save(damaged, tmp_path / "damaged.onnx")
        runner = runners.open_artefact("onnx", tmp_path / "damaged.onnx")
        if not np.allclose(runner.predict({"input": rows})["variable"], right["variable"], atol=1e-3):
            harmful += 1
            kinds.add(kind)
            if compare(asked, runner.predict)["verdict"] != FAILED:
                missed.append(kind)
    assert kinds == {"threshold", "missing", "category"}
    assert harmful > 40
    assert missed == []


def _damaged_categories(whole: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each threshold and missing branch, and some entries of the tables that list categories."""
    (ensemble,) = [node for node in whole.graph.node if node.op_type == "TreeEnsembleRegressor"]
    attributes = {one.name: one for one in ensemble.attribute}
    number = list(whole.graph.node).index(ensemble)
    compares_category = np.array(attributes["nodes_featureids"].ints) >= LISTED.shape[1]
    inner = [place for place, mode in enumerate(attributes["nodes_modes"].strings) if mode != b"LEAF"]
    for place in inner:
        damages = [("missing", _damage_missing)]
        damages += [] if compares_category[place] else [("threshold", _move_threshold)]
        for kind, damage in damages:
            damaged = onnx.ModelProto()
            damaged.CopyFrom(whole)
            damage(damaged.graph.node[number], place)
            yield kind, damaged
    for table_number, table in enumerate(whole.graph.initializer):
        values = numpy_helper.to_array(table)
        if values.ndim == 2 and np.isnan(values).any() and values.shape[0] > 2:
            for row, column in itertools.product(range(0, len(values) - 2, 3), range(values.shape[1])):
                damaged = onnx.ModelProto()
                damaged.CopyFrom(whole)
                changed = values.copy()
                changed[row, column] = 1 - changed[row, column]
                damaged.graph.initializer[table_number].CopyFrom(numpy_helper.from_array(changed, table.name))
                yield "category", damaged


def test_a_category_on_the_wrong_side_is_found_before_anything_runs() -> None:
    """The nodes of the graph are compared with the source's, their categories too."""
    model = OF_CATEGORIES["LightGBM"]()
    graph = estimator_to_onnx._convert(as_source(model), 18, "float32")
    assert onnx_trees.repair(graph, model, double=False) > 50
    for table in graph.graph.initializer:
        values = numpy_helper.to_array(table).copy()
        if values.ndim == 2 and np.isnan(values).any():
            values[0, 0] = 1 - values[0, 0]
            table.CopyFrom(numpy_helper.from_array(values, table.name))

    with pytest.raises(ConversionFailed, match="trees that the model does not have"):
        onnx_trees.repair(graph, model, double=False)


def _near_thresholds(forest: Any) -> npt.NDArray[np.float32]:
    """Rows of the training data, each with one value on or next to a threshold, or missing."""
    random = np.random.default_rng(2)
    found = []
    for tree in (member.tree_ for member in forest.estimators_):
        for node in np.flatnonzero(tree.children_left != -1):
            near = np.float32(tree.threshold[node])
            for value in (np.nan, near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, -near)):
                block = GAPS[random.integers(0, len(GAPS), 60)].astype(np.float32)
                block[:, tree.feature[node]] = value
                found.append(block)
    return np.concatenate(found)


def test_float32_thresholds_send_each_float32_value_where_the_float64_ones_do() -> None:
    random = np.random.default_rng(1)
    thresholds = np.concatenate(
        [random.normal(size=500), random.normal(size=500) * 1e-40, [np.inf, -np.inf, 1e300, 0.0]]
    )
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    for strict in (False, True):
        narrow = narrowed(thresholds, strict=strict)
        for value in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
            wide = value.astype(np.float64)
            want = wide < thresholds if strict else wide <= thresholds
            assert ((value < narrow if strict else value <= narrow) == want).all()
