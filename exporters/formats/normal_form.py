"""Convert an estimator to the form that skl2onnx supports: the same outputs, without the parts for ``fit``.

A search becomes its best estimator, steps that pass their input through are removed, and a feature selection
that predicts becomes a pipeline of the selection and its estimator. The source itself is not changed.
"""

import copy
from typing import Any

from ..sources.fitted import attributes, is_passthrough

# Wrappers with the same outputs as one fitted estimator inside them.
_WRAPPERS = {
    "GridSearchCV": "best_estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "FrozenEstimator": "estimator",
    "SelfTrainingClassifier": "estimator_",
}
_SELECTIONS = ("RFE", "RFECV")
# Steps that return sparse rows when a TfidfTransformer passes them sparse rows.
_SPARSE = {
    *("MaxAbsScaler", "Normalizer", "SelectFromModel", "SelectKBest", "SelectPercentile", "StandardScaler"),
    *("TfidfTransformer", "VarianceThreshold"),
}


class _Step:
    """A step that scikit-learn has no class for. Only skl2onnx reads it."""

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))


class Columns(_Step):
    """Selects columns by index, in any order."""

    def __init__(self, columns: list[int]) -> None:
        self.columns = columns


class AbsentZeros(_Step):
    """Replaces zeros by NaN: XGBoost treats values that a sparse row does not store as missing."""


class InverseTransform(_Step):
    """A step that applies ``transformer.inverse_transform`` to the output of the step before it."""

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer


def of(estimator: Any, *, transforms: bool = False) -> Any:
    """Return the estimator, or an equivalent one that shares its fitted parts.

    ``transforms``: another step reads the output of its ``transform``.
    """
    kind = type(estimator).__name__
    if kind in _WRAPPERS:
        return of(getattr(estimator, _WRAPPERS[kind]), transforms=transforms)
    if kind == "Pipeline":
        return _pipeline(estimator, transforms=transforms)
    if kind == "TransformedTargetRegressor":
        inverse = InverseTransform(estimator.transformer_)
        return _steps([*_named(of(estimator.regressor_)), ("inverse", inverse)])
    if kind in _SELECTIONS and not transforms:
        return _steps([("select", estimator), ("estimator", of(estimator.estimator_))])
    found = {name: _value(one, kind) for name, one in attributes(estimator).items()}
    if kind == "ColumnTransformer":
        found["transformers_"] = _columns_of(estimator, found["transformers_"])
    if kind == "RandomTreesEmbedding":  # skl2onnx refuses sparse outputs, also those of the encoder inside
        found["sparse_output"] = False
        found["one_hot_encoder_"] = copy.copy(estimator.one_hot_encoder_).set_params(sparse_output=False)
    if kind == "VotingClassifier":  # skl2onnx refuses settings that only ``transform`` uses
        found["flatten_transform"] = False
    changed = {name: one for name, one in found.items() if one is not getattr(estimator, name)}
    if not changed:
        return estimator
    other = copy.copy(estimator)
    for name, one in changed.items():
        setattr(other, name, one)
    return other


def _value(value: Any, kind: str) -> Any:
    """Convert an attribute: an estimator, or a list of estimators, of pairs and the like."""
    if hasattr(value, "get_params") or type(value).__name__ == "_CalibratedClassifier":
        return of(value, transforms=kind in ("ColumnTransformer", "FeatureUnion"))
    if not isinstance(value, (list, tuple)) or not any(
        isinstance(one, tuple) or hasattr(one, "__dict__") for one in value
    ):
        return value
    found = [_value(one, kind) for one in value]
    same = all(one is other for one, other in zip(found, value, strict=True))
    return value if same else type(value)(found)


def _pipeline(pipeline: Any, *, transforms: bool) -> Any:
    steps: list[tuple[str, Any]] = []
    last = len(pipeline.steps) - 1
    for place, (_, step) in enumerate(pipeline.steps):
        if is_passthrough(step):
            continue
        if type(step).__name__.startswith("XGB") and _is_sparse(pipeline.steps[:place]):
            steps.append(("zeros", AbsentZeros()))
        found = of(step, transforms=transforms or place < last)
        steps += [(f"{len(steps) + place}", one) for place, (_, one) in enumerate(_named(found))]
    return _steps(steps)


def _is_sparse(steps: list[tuple[str, Any]]) -> bool:
    first, *others = [step for _, step in steps if not is_passthrough(step)] or [None]
    made = type(first).__name__ == "TfidfTransformer" or getattr(first, "sparse_output_", False)
    return bool(made) and {type(step).__name__ for step in others} <= _SPARSE


def _named(estimator: Any) -> list[tuple[str, Any]]:
    """Return an estimator as a list of steps: a pipeline's steps, or the estimator itself."""
    return list(estimator.steps) if type(estimator).__name__ == "Pipeline" else [("0", estimator)]


def _columns_of(transformer: Any, transformers: list[Any]) -> list[Any]:
    """Return columns by index. skl2onnx treats all columns in another order like all columns in order."""
    found = []
    for name, part, columns in transformers:
        if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
            columns = [int(one) for one in transformer._transformer_to_input_indices[name]]
            in_order = columns == list(range(len(columns)))
            if len(columns) == transformer.n_features_in_ and not in_order and not isinstance(part, str):
                part = _steps([("columns", Columns(columns)), *_named(part)])
        found.append((name, part, columns))
    return found


def _steps(steps: list[tuple[str, Any]]) -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    if not steps:
        return FunctionTransformer()
    return steps[0][1] if len(steps) == 1 else Pipeline(steps)
