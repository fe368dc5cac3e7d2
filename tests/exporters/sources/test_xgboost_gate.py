"""Models of XGBoost that would make its native code read outside its tables, however they are stored."""

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import xgboost

from exporters.errors import InvalidSource
from exporters.request import Trust
from exporters.sources import boosters, estimators, ubjson

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 4)).astype(np.float32)
Y = X[:, 0] * X[:, 1]
CODES = RANDOM.integers(0, 6, (200, 1)).astype(np.float32)
Tree = dict[str, Any]


def _fitted(**settings: Any) -> Any:
    return xgboost.XGBRegressor(n_estimators=2, max_depth=3, **settings).fit(X, Y)


def _categories() -> Any:
    estimator = xgboost.XGBRegressor(
        n_estimators=2, enable_categorical=True, feature_types=["c", *"qqqq"], max_cat_to_onehot=2
    )
    return estimator.fit(np.hstack([CODES, X]), CODES[:, 0] % 3)


MODELS: dict[str, Callable[[], Any]] = {
    "trees": _fitted,
    "pruned": lambda: _fitted(gamma=0.5),
    "dart": lambda: _fitted(booster="dart"),
    "linear": lambda: _fitted(booster="gblinear"),
    "classes": lambda: xgboost.XGBClassifier(n_estimators=2).fit(X, np.digitize(Y, [-1, 1])),
    "several targets": lambda: xgboost.XGBRegressor(n_estimators=2, multi_strategy="multi_output_tree").fit(
        X, np.stack([Y, -Y], 1)
    ),
    "categories": _categories,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("written", ["json", "ubj", "deprecated"])
def test_what_xgboost_writes_is_taken(make: Callable[[], Any], written: str, tmp_path: Path) -> None:
    booster = make().get_booster()
    if written == "deprecated":
        boosters.check_xgboost(booster.__getstate__()["handle"])
        return
    booster.save_model(tmp_path / f"model.{written}")

    assert boosters.load_xgboost(tmp_path / f"model.{written}").get_booster().num_boosted_rounds() > 0


def test_its_ubjson_reads_as_its_json() -> None:
    booster = _categories().get_booster()

    found = ubjson.loads(bytes(booster.save_raw("ubj")))

    expected = json.loads(booster.save_raw("json"))
    assert found["learner"]["learner_model_param"] == expected["learner"]["learner_model_param"]
    for ours, theirs in zip(_trees(found), _trees(expected), strict=True):
        for name in theirs.keys() - {"tree_param", "id"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-40)


def _trees(document: Any) -> list[Tree]:
    found: list[Tree] = document["learner"]["gradient_booster"]["model"]["trees"]
    return found


DAMAGES: dict[str, Callable[[Tree], object]] = {
    "a child outside": lambda tree: tree["left_children"].__setitem__(0, 10**8),
    "a child below zero": lambda tree: tree["right_children"].__setitem__(0, -7),
    "a cycle": lambda tree: tree["left_children"].__setitem__(1, 0),
    "a child that is its own": lambda tree: tree["left_children"].__setitem__(1, 1),
    "a node with two parents": lambda tree: tree["left_children"].__setitem__(0, tree["right_children"][0]),
    "half a split": lambda tree: tree["left_children"].__setitem__(0, -1),
    "a feature outside": lambda tree: tree["split_indices"].__setitem__(0, 10**7),
    "a feature below zero": lambda tree: tree["split_indices"].__setitem__(0, -1),
    "a parent outside": lambda tree: tree["parents"].__setitem__(3, 10**7),
    "a table cut short": lambda tree: tree["parents"].pop(),
    "categories without a table": lambda tree: tree["split_type"].__setitem__(0, 1),
    "categories outside their table": lambda tree: tree.update(
        categories_nodes=[0], categories_segments=[10**9], categories_sizes=[10**6], categories=[1]
    ),
    "a number that is text": lambda tree: tree["left_children"].__setitem__(0, "1"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_tree_is_refused(damage: Callable[[Tree], object], tmp_path: Path) -> None:
    document = json.loads(_fitted().get_booster().save_raw("json"))
    damage(_trees(document)[0])
    (tmp_path / "model.json").write_text(json.dumps(document))

    with pytest.raises(InvalidSource, match="XGBoost cannot read the model file"):
        boosters.load_xgboost(tmp_path / "model.json")


@pytest.mark.parametrize("place", ["tree_info", "iteration_indptr"])
def test_a_damaged_list_of_trees_is_refused(place: str, tmp_path: Path) -> None:
    document = json.loads(_fitted().get_booster().save_raw("json"))
    document["learner"]["gradient_booster"]["model"][place][1] = 10**6
    (tmp_path / "model.json").write_text(json.dumps(document))

    with pytest.raises(InvalidSource, match="XGBoost cannot read the model file"):
        boosters.load_xgboost(tmp_path / "model.json")


def _crooked(raw: bytes) -> bytes:
    """The model with a child outside its tree, as long as before."""
    start = raw.index(b"left_children")
    first = raw.index((1).to_bytes(4, "big"), start)
    return raw[:first] + (10**8).to_bytes(4, "big") + raw[first + 4 :]


@pytest.mark.parametrize("packed", ["pickle", "joblib", "skops"])
def test_a_damaged_tree_in_an_estimator_is_refused(packed: str, tmp_path: Path) -> None:
    estimator = _fitted()
    state = bytes(estimator.get_booster().__getstate__()["handle"])
    path = tmp_path / f"model.{packed}"
    if packed == "skops":
        skops.io.dump(estimator, tmp_path / "whole.skops")
        with zipfile.ZipFile(tmp_path / "whole.skops") as whole, zipfile.ZipFile(path, "w") as other:
            for name in whole.namelist():
                content = whole.read(name)
                other.writestr(name, _crooked(content) if name.endswith(".bin") else content)
    else:
        joblib.dump(estimator, path) if packed == "joblib" else path.write_bytes(pickle.dumps(estimator))
        content = path.read_bytes()
        assert state in content
        path.write_bytes(content.replace(state, _crooked(state)))

    with pytest.raises(InvalidSource, match="XGBoost cannot read the model file"):
        estimators.load(path, {}, Trust())


def test_random_damage_ends_no_process(tmp_path: Path) -> None:
    """Loaded and asked in a process of its own: an error or an answer, and never a signal."""
    code = """
import json, sys
import numpy as np
from exporters.errors import InvalidSource
from exporters.sources import boosters
from tests.exporters.sources.test_xgboost_gate import MODELS, X, _trees
random = np.random.default_rng(5)
refused = 0
for name in ("trees", "several targets", "categories"):
    whole = json.loads(MODELS[name]().get_booster().save_raw("json"))
    for turn in range(60):
        document = json.loads(json.dumps(whole))
        tree = _trees(document)[random.integers(2)]
        tables = [one for one in tree if isinstance(tree[one], list) and tree[one]]
        table = tree[tables[random.integers(len(tables))]]
        table[random.integers(len(table))] = [-3, -1, 0, 1, 3, 9, 10**8, 2**31 - 1][random.integers(8)]
        with open(sys.argv[1], "w") as file:
            json.dump(document, file)
        try:
            estimator = boosters.load_xgboost(__import__("pathlib").Path(sys.argv[1]))
        except InvalidSource:
            refused += 1
            continue
        estimator.get_booster().inplace_predict(np.zeros((3, estimator.get_booster().num_features()), "f4"))
print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.json")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 30
