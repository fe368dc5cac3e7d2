"""Load XGBoost's and LightGBM's own model files: numbers that native code reads, never a pickle."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidSource, as_limit
from . import xgboost_gate

_LIMIT_BYTES = 4 << 30
_TREE_LINES = 22  # LightGBM reads at most this many lines of a tree
_INTEGERS = re.compile(r"-?[0-9]{1,10}( -?[0-9]{1,10})*")


def is_xgboost(head: bytes) -> bool:
    """Recognise JSON, or UBJSON, which has the length of the first key before the key."""
    return (
        head[:1] == b"{"
        and re.search(rb'^\{(\s*"|[LlIiU][\x00-\x07]{1,8})(learner|version)\b', head) is not None
    )


def is_lightgbm(head: bytes) -> bool:
    return head.startswith((b"tree\nversion=", b"tree\r\nversion="))


def load_xgboost(path: Path) -> Any:
    """Return the scikit-learn estimator that fits the model's objective.

    Raises:
        InvalidSource: damaged, or of a newer XGBoost.
    """
    import xgboost

    try:
        raw = bytearray(_read(path))
        check_xgboost(raw)
        booster = xgboost.Booster()
        booster.load_model(raw)
        learner = json.loads(booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        estimator = xgboost.XGBRegressor()
        if objective.startswith(("binary:logistic", "multi:")):
            estimator = xgboost.XGBClassifier()
        elif objective.startswith("rank:"):
            estimator = xgboost.XGBRanker(objective=objective)
        estimator.load_model(raw)
        if objective == "multi:softmax":  # for probabilities, it would return labels
            estimator.get_booster().set_param({"objective": "multi:softprob"})
            estimator.objective = "multi:softprob"
        return estimator
    except InvalidSource:
        raise
    except Exception as exc:
        raise as_limit(exc) or _damaged("XGBoost", "booster.save_model('model.json')") from exc


def load_lightgbm(path: Path) -> Any:
    """Return the scikit-learn estimator that fits the model's objective.

    Raises:
        InvalidSource: damaged, or of a newer LightGBM.
    """
    import lightgbm

    try:
        text = _read(path).replace(b"\r\n", b"\n").decode()
        check_lightgbm(text)
        booster = lightgbm.Booster(model_str=text, params={"verbosity": -1})
        objective = (str(booster.dump_model(num_iteration=1).get("objective", "")).split() or [""])[0]
        estimator = lightgbm.LGBMRegressor(objective=objective or None)
        if objective in ("binary", "multiclass", "multiclassova"):
            estimator = _classes(lightgbm.LGBMClassifier(objective=objective), booster)
        # The attributes that fit() sets: LightGBM cannot restore an estimator from its own file.
        estimator._Booster = booster
        estimator._objective = objective
        estimator._n_features = estimator._n_features_in = booster.num_feature()
        estimator.fitted_ = True
        return estimator
    except InvalidSource:
        raise
    except Exception as exc:
        raise as_limit(exc) or _damaged("LightGBM", "booster.save_model('model.txt')") from exc


def check_xgboost(raw: Any) -> None:
    """Check the columns, children and categories of a model file, which XGBoost does not check.

    Raises:
        InvalidSource: a tree that would be read outside its tables, or a file that XGBoost did not write.
    """
    try:
        xgboost_gate.check(bytes(raw))
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as exc:
        raise _damaged("XGBoost", "booster.save_model('model.json')") from exc


def check_lightgbm(text: Any) -> None:
    """Check the columns, children and positions of trees in a model text, which LightGBM does not check.

    Raises:
        InvalidSource: a tree that would read outside its own memory, or a text that LightGBM did not write.
    """
    try:
        _require(type(text) is str and "\r" not in text and "\0" not in text)
        data = text.encode()
        head = data[: data.index(b"\nTree=") + 1] if b"\nTree=" in data else b""
        header = _fields(head.decode().split("\n"))
        columns = _integer(header["max_feature_idx"]) + 1
        outputs = _integer(header["num_class"])
        _require(columns > 0 and outputs > 0)
        # One number per tree and row, in a row with one number per class.
        _require(_integer(header.get("num_tree_per_iteration", header["num_class"])) == outputs)
        for word in header.get("objective", "").split():
            _require(not word.startswith("num_class") or word == f"num_class:{outputs}")
        start, sizes = len(head), _integers(header["tree_sizes"]).tolist()
        _require(len(sizes) > 0 and len(sizes) % outputs == 0)
        for number, size in enumerate(sizes):
            block = data[start : start + size]
            _require(size > 0 and len(block) == size and block.startswith(b"Tree=%d\n" % number))
            _require(block.endswith(b"\n"))
            _check_lightgbm_tree(block.decode(), columns)
            start += size
        _require(not data.startswith(b"Tree=", start))
    except (KeyError, ValueError, IndexError, OverflowError) as exc:
        raise _damaged("LightGBM", "booster.save_model('model.txt')") from exc


def _check_lightgbm_tree(block: str, columns: int) -> None:
    """Check a tree: nodes count up from the root; a child is a later node, or a leaf, ``-1 - leaf``."""
    lines = block.rstrip("\n").split("\n")[1:]
    _require(len(lines) <= _TREE_LINES and all("=" in line for line in lines))
    fields = _fields(lines)
    leaves = _integer(fields["num_leaves"])
    _require(leaves > 0 and fields.get("is_linear", "0") in ("0", "1"))
    if fields.get("is_linear") == "1":
        _check_lightgbm_lines(fields, leaves, columns)
    for name in ("leaf_value", "leaf_weight", "leaf_count"):
        one_leaf = leaves == 1 and not fields.get(name)
        _require(one_leaf or name not in fields or len(fields[name].split(" ")) == leaves)
    _require(bool(fields["leaf_value"]))
    for name in ("threshold", "split_gain", "internal_value", "internal_weight", "internal_count"):
        _require(name not in fields or len(fields[name].split()) == leaves - 1)
    if leaves == 1:
        return
    feature, kind, left, right = (
        _integers(fields[name]) for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    _require(all(len(one) == leaves - 1 for one in (feature, kind, left, right)))
    _require(bool(((feature >= 0) & (feature < columns)).all()))
    places = np.arange(leaves - 1)
    _require(all(bool(((side < 0) | (side > places)).all()) for side in (left, right)))
    below = np.sort(np.concatenate([left, right]))
    _require(bool((below == np.r_[-leaves:0, 1 : leaves - 1]).all()))
    _check_lightgbm_categories(fields, np.array(fields["threshold"].split(" "))[kind & 1 == 1])


def _check_lightgbm_lines(fields: dict[str, str], leaves: int, columns: int) -> None:
    """Check the lines of ``linear_tree``: LightGBM reads as many numbers as ``num_features`` declares."""
    counts = [_integer(one) for one in fields["num_features"].split(" ")]
    _require(len(counts) == leaves and len(fields["leaf_const"].split(" ")) == leaves)
    read = [_integer(one) for one in fields["leaf_features"].split()]
    _require(len(read) == sum(counts) == len(fields["leaf_coeff"].split()))
    _require(all(column < columns for column in read))


def _check_lightgbm_categories(fields: dict[str, str], used: npt.NDArray[Any]) -> None:
    count = _integer(fields["num_cat"])
    _require(count > 0 or not len(used))
    if count:
        bounds = _integers(fields["cat_boundaries"])
        words = fields["cat_threshold"].split(" ")
        _require(len(bounds) == count + 1 and bounds[0] == 0 and bounds[-1] == len(words))
        _require(bool((np.diff(bounds) >= 0).all()))
        _require(all(_integer(str(one)) < count for one in used))


def _fields(lines: list[str]) -> dict[str, str]:
    pairs = [line.split("=", 1) for line in lines if line]
    fields = {pair[0]: pair[-1] for pair in pairs}
    _require(len(fields) == len(pairs))
    return fields


def _integer(text: str) -> int:
    _require(re.fullmatch("[0-9]{1,10}", text) is not None)
    return int(text)


def _integers(text: str) -> npt.NDArray[np.int64]:
    _require(_INTEGERS.fullmatch(text) is not None)
    return np.array(text.split(" ")).astype(np.int64)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("not in the form that LightGBM writes")


def _classes(estimator: Any, booster: Any) -> Any:
    from sklearn.preprocessing import LabelEncoder

    labels = list(range(max(2, booster.num_model_per_iteration())))
    estimator._le = LabelEncoder().fit(labels)
    estimator._classes = estimator._le.classes_
    estimator._class_map = {label: label for label in labels}
    estimator._n_classes = len(labels)
    return estimator


def _read(path: Path) -> bytes:
    if path.stat().st_size > _LIMIT_BYTES:
        raise InvalidSource(f"The model file is larger than {_LIMIT_BYTES:,} bytes.")
    return path.read_bytes()


def _damaged(framework: str, advice: str) -> InvalidSource:
    installed = import_module(framework.lower()).__version__
    return InvalidSource(
        f"{framework} cannot read the model file: it was cut short, or written by a newer "
        f"{framework} than the installed {installed}. Save it with {framework} {installed} or "
        f"older: {advice}."
    )
