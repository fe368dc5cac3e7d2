"""XGBoost's and LightGBM's own model files: numbers, read by native code, and never a pickle."""

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InvalidSource, as_limit

_LIMIT_BYTES = 4 << 30


def is_xgboost(head: bytes) -> bool:
    """JSON, or UBJSON with the length of the first key before it."""
    return (
        head[:1] == b"{"
        and re.search(rb'^\{(\s*"|[LlIiU][\x00-\x07]{1,8})(learner|version)\b', head) is not None
    )


def is_lightgbm(head: bytes) -> bool:
    return head.startswith((b"tree\nversion=", b"tree\r\nversion="))


def load_xgboost(path: Path) -> Any:
    """The scikit-learn estimator that the objective calls for.

    Raises:
        InvalidSource: damaged, or of a newer XGBoost.
    """
    import xgboost

    try:
        raw = bytearray(_read(path))
        booster = xgboost.Booster()
        booster.load_model(raw)
        learner = json.loads(booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        estimator = xgboost.XGBRegressor()
        if objective.startswith(("binary:logistic", "multi:")):
            estimator = xgboost.XGBClassifier()
        estimator.load_model(raw)
        if objective == "multi:softmax":  # asked for probabilities, it would answer with labels
            estimator.get_booster().set_param({"objective": "multi:softprob"})
            estimator.objective = "multi:softprob"
        return estimator
    except InvalidSource:
        raise
    except Exception as exc:
        raise as_limit(exc) or _damaged("XGBoost", "booster.save_model('model.json')") from exc


def load_lightgbm(path: Path) -> Any:
    """The scikit-learn estimator that the objective calls for.

    Raises:
        InvalidSource: damaged, or of a newer LightGBM.
    """
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=_read(path).decode(), params={"verbosity": -1})
        objective = (str(booster.dump_model(num_iteration=1).get("objective", "")).split() or [""])[0]
        estimator = lightgbm.LGBMRegressor(objective=objective or None)
        if objective in ("binary", "multiclass", "multiclassova"):
            estimator = _classes(lightgbm.LGBMClassifier(objective=objective), booster)
        # What fit() sets: LightGBM has no way from its own file back to an estimator.
        estimator._Booster = booster
        estimator._objective = objective
        estimator._n_features = estimator._n_features_in = booster.num_feature()
        estimator.fitted_ = True
        return estimator
    except InvalidSource:
        raise
    except Exception as exc:
        raise as_limit(exc) or _damaged("LightGBM", "booster.save_model('model.txt')") from exc


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
    return InvalidSource(
        f"{framework} cannot read the model file: it is damaged, or of a newer version. Save it again "
        f"with {advice}."
    )
