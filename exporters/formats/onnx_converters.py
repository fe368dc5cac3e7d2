"""Choose skl2onnx's converter for each estimator: its own, one of this package, or one of onnxmltools."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from .. import imports
from . import (
    onnx_boosting,
    onnx_calibration,
    onnx_encoders,
    onnx_imputers,
    onnx_isolation,
    onnx_kernels,
    onnx_linear,
    onnx_mixture,
    onnx_neighbours,
    onnx_pairs,
    onnx_splines,
    onnx_steps,
)
from .normal_form import AbsentZeros, Columns, InverseTransform


@lru_cache
def register() -> None:
    """Register this package's converters and those of the installed libraries, once per process."""
    for module in (onnx_imputers, onnx_kernels, onnx_linear, onnx_mixture, onnx_neighbours, onnx_splines):
        module.register()
    _register_steps()
    for alias, convert in (
        ("SklearnCalibratedClassifierCV", onnx_calibration.calibrated),
        ("SklearnKMeans", onnx_steps.nearest_center),
        ("SklearnMiniBatchKMeans", onnx_steps.nearest_center),
        ("SklearnHistGradientBoostingClassifier", onnx_boosting.histogram),
        ("SklearnHistGradientBoostingRegressor", onnx_boosting.histogram),
        ("SklearnIsolationForest", onnx_isolation.convert),
        ("SklearnOneVsOneClassifier", onnx_pairs.convert),
    ):
        _overwrite(alias, convert)
    if not imports.why_not("xgboost"):
        _register_xgboost()
    if not imports.why_not("lightgbm"):
        _register_lightgbm()


def _overwrite(alias: str, convert: Callable[..., None]) -> None:
    from skl2onnx.common import _registration as registration

    theirs = registration.get_converter(alias)
    registration.register_converter(alias, convert, overwrite=True, options=theirs._options)


def _register_steps() -> None:
    from skl2onnx import update_registered_converter
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.feature_selection import SequentialFeatureSelector
    from sklearn.impute import SimpleImputer
    from sklearn.isotonic import IsotonicRegression
    from sklearn.preprocessing import (
        Binarizer,
        FunctionTransformer,
        KBinsDiscretizer,
        Normalizer,
        OneHotEncoder,
        OrdinalEncoder,
        PowerTransformer,
        QuantileTransformer,
        TargetEncoder,
    )

    for encoder in (OneHotEncoder, OrdinalEncoder, TargetEncoder):
        _replace(encoder, onnx_encoders.encoder)
    _replace(Binarizer, onnx_steps.binary)
    _replace(KBinsDiscretizer, onnx_steps.bins)
    _replace(Normalizer, onnx_steps.norm)
    _replace(PowerTransformer, onnx_steps.power)
    _replace(QuantileTransformer, onnx_steps.quantiles)
    _replace(SimpleImputer, onnx_imputers.simple)
    _replace(TfidfTransformer, onnx_steps.tfidf)
    for model, convert in (
        (AbsentZeros, onnx_steps.absent_zeros),
        (Columns, onnx_steps.columns),
        (SequentialFeatureSelector, onnx_steps.selector),
        (IsotonicRegression, onnx_calibration.isotonic),
        (FunctionTransformer, onnx_steps.function),
        (InverseTransform, onnx_steps.inverse),
    ):
        update_registered_converter(model, f"Our{model.__name__}", _shape, convert)


def _shape(operator: Any) -> None:
    """Set the output type: as many rows as the input, in floats; the converter determines the columns."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    wide = any(isinstance(one.type, DoubleTensorType) for one in operator.inputs)
    operator.outputs[0].type = (DoubleTensorType if wide else FloatTensorType)([None, _width(operator)])


def _width(operator: Any) -> int | None:
    model = operator.raw_operator
    if isinstance(model, Columns):
        return len(model.columns)
    if hasattr(model, "get_support"):
        return int(model.get_support().sum())
    widths = [one.type.shape[1] for one in operator.inputs]
    if hasattr(model, "bin_edges_") or hasattr(model, "statistics_"):
        return len(model.get_feature_names_out())
    if hasattr(model, "categories_"):
        return sum(onnx_encoders.widths(model))
    return None if None in widths else int(sum(widths))


def _replace(model: type, convert: Callable[..., None]) -> None:
    """Register ``convert`` for numeric input. For text, keep the converter of skl2onnx, if there is one."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import _registration as registration
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    alias = f"Sklearn{model.__name__}"
    theirs = registration._converter_pool.get(alias)
    their_shape = registration._shape_calculator_pool.get(alias)

    def of_numbers(operator: Any) -> bool:
        return all(isinstance(one.type, (FloatTensorType, DoubleTensorType)) for one in operator.inputs)

    def run(scope: Any, operator: Any, container: Any) -> None:
        if theirs is None or of_numbers(operator):
            convert(scope, operator, container)
        else:
            theirs._fct(scope, operator, container)

    def shape(operator: Any) -> None:
        if their_shape is None or of_numbers(operator):
            _shape(operator)
        else:
            their_shape(operator)

    update_registered_converter(
        model, alias, shape, run, options=theirs._options if theirs is not None else None
    )


def _register_boosters(
    library: str, classifiers: Iterable[type], others: Iterable[type], convert: Callable[..., None]
) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as of_classifier,
    )
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as of_regressor

    choices = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for model in classifiers:
        alias = f"{library}{model.__name__}"
        update_registered_converter(model, alias, of_classifier, convert, options=choices)
    for model in others:
        update_registered_converter(model, f"{library}{model.__name__}", of_regressor, convert)


def _register_xgboost() -> None:
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    from . import onnx_xgboost

    def convert(scope: Any, operator: Any, container: Any) -> None:
        ours = onnx_xgboost.is_ours(operator.raw_operator)
        (onnx_xgboost.convert if ours else convert_xgboost)(scope, operator, container)

    classifiers = (xgboost.XGBClassifier, xgboost.XGBRFClassifier)
    others = (xgboost.XGBRegressor, xgboost.XGBRFRegressor, xgboost.XGBRanker)
    _register_boosters("XGBoost", classifiers, others, convert)


def _register_lightgbm() -> None:
    import lightgbm

    others = (lightgbm.LGBMRegressor, lightgbm.LGBMRanker)
    _register_boosters("LightGbm", (lightgbm.LGBMClassifier,), others, onnx_boosting.lightgbm)
