"""Converters that skl2onnx lacks, or that answer otherwise than their estimator does.

An encoder of skl2onnx casts a number to an integer first, so that 0.4 counts as the category 0. Here a number
is compared with the categories themselves, and a table that the encoder filled holds what each of them
becomes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from .normal_form import Columns, InverseTransform
from .onnx_nodes import Nodes

Numbers = npt.NDArray[np.float64]

_MOST_CELLS = 1 << 24  # of an encoder's table


def register() -> None:
    """Teach skl2onnx the converters of this module."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import _registration as registration
    from sklearn.feature_selection import SequentialFeatureSelector
    from sklearn.impute import SimpleImputer
    from sklearn.isotonic import IsotonicRegression
    from sklearn.preprocessing import (
        FunctionTransformer,
        KBinsDiscretizer,
        Normalizer,
        OneHotEncoder,
        OrdinalEncoder,
        PowerTransformer,
        QuantileTransformer,
        TargetEncoder,
    )

    from . import onnx_isolation, onnx_kernels, onnx_linear, onnx_mixture, onnx_neighbours, onnx_steps

    for module in (onnx_kernels, onnx_linear, onnx_mixture, onnx_neighbours):
        module.register()
    for alias, convert in (
        ("SklearnCalibratedClassifierCV", _calibrated),
        ("SklearnIsolationForest", onnx_isolation.convert),
        ("SklearnKMeans", onnx_steps.nearest_center),
        ("SklearnMiniBatchKMeans", onnx_steps.nearest_center),
    ):
        options = registration.get_converter(alias)._options
        registration.register_converter(alias, convert, overwrite=True, options=options)
    for encoder in (OneHotEncoder, OrdinalEncoder, TargetEncoder):
        _replace(encoder, _encoder)
    _replace(KBinsDiscretizer, onnx_steps.bins)
    _replace(Normalizer, onnx_steps.norm)
    _replace(PowerTransformer, onnx_steps.power)
    _replace(QuantileTransformer, onnx_steps.quantiles)
    _replace(SimpleImputer, onnx_steps.imputer)
    for model, convert in (
        (Columns, _columns),
        (SequentialFeatureSelector, _selector),
        (IsotonicRegression, _isotonic),
        (FunctionTransformer, _function),
        (InverseTransform, _inverse),
    ):
        update_registered_converter(model, f"Our{model.__name__}", _shape, convert)


def _shape(operator: Any) -> None:
    """As many rows as come in, in floats; the converter decides on the columns."""
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
        return sum(_widths(model))
    return None if None in widths else int(sum(widths))


def _replace(model: type, convert: Callable[..., None]) -> None:
    """Of numbers: ``convert``. Of text: the converter of skl2onnx, if there is one."""
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


def _encoder(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    encoder, rows = operator.raw_operator, node.joined(operator)
    parts = []
    for place, table in enumerate(_tables(encoder)):
        value = node("Gather", rows, np.array([place]), axis=1)
        parts.append(looked_up(node, value, np.asarray(encoder.categories_[place], np.float64), table))
    node.finish(node("Concat", *parts, axis=1), operator)


def looked_up(node: Nodes, value: str, keys: Numbers, table: Numbers) -> str:
    """For each of ``value`` [N, 1] the row of ``table`` [K + 1, columns] that belongs to its key of [K].

    The last row belongs to every other value. NaN is a key like others.
    """
    # A key that the graph's floats cannot hold equals none of its values.
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
    """Of each column what each category becomes, and in the last row what everything else does.

    The encoder fills them itself: its rules for infrequent, dropped, missing and unknown categories are its.
    """
    categories = [np.asarray(one) for one in encoder.categories_]
    widths = _widths(encoder)
    start = 0
    for place, (known, width) in enumerate(zip(categories, widths, strict=True)):
        if len(known) * width > _MOST_CELLS:
            raise ConversionFailed(f"A column has {len(known):,} categories: more than a table here holds.")
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


def _widths(encoder: Any) -> list[int]:
    count = len(encoder.categories_)
    if type(encoder).__name__ == "OneHotEncoder":
        return [int(one) for one in encoder._n_features_outs]
    if type(encoder).__name__ == "TargetEncoder":
        return [len(encoder.encodings_) // count] * count
    return [1] * count


def _columns(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    chosen = np.array(operator.raw_operator.columns, np.int64)
    node.finish(node("Gather", node.joined(operator), chosen, axis=1), operator)


def _selector(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    chosen = np.flatnonzero(operator.raw_operator.get_support())
    node.finish(node("Gather", node.joined(operator), chosen, axis=1), operator)


def _isotonic(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    node.finish(_interpolated(node, operator.raw_operator, node.joined(operator)), operator)


def _interpolated(node: Nodes, regression: Any, value: str) -> str:
    """Of a value [N, 1] the piecewise linear function between the thresholds; skl2onnx takes the nearest."""
    xs, ys = (np.asarray(one, np.float64) for one in (regression.X_thresholds_, regression.y_thresholds_))
    first = np.full((1, 1), ys[0])
    if len(xs) == 1:
        return node("Add", node("Mul", value, np.zeros((1, 1))), first)
    share = node("Div", node("Sub", value, xs[None, :-1]), np.diff(xs)[None])
    share = node("Clip", share, np.array(0.0), np.array(1.0))
    found = node("Add", node("MatMul", share, np.diff(ys)[:, None]), first)
    if regression.out_of_bounds == "clip":
        return found
    outside = node("Or", node("Less", value, xs[None, :1]), node("Greater", value, xs[None, -1:]))
    return node("Where", outside, np.full((1, 1), np.nan), found)


def _calibrated(scope: Any, operator: Any, container: Any) -> None:
    """The mean of what the calibrated classifiers say, and the class that has most of it."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    each = [_one_calibrated(node, scope, operator, container, one) for one in model.calibrated_classifiers_]
    mean = node("Div", node("Sum", *each), np.array(float(len(each))))
    container.add_node("Identity", [mean], [operator.outputs[1].full_name])
    place = node("ArgMax", mean, axis=1, keepdims=0)
    classes = np.asarray(model.classes_)
    label = node("Gather", classes.astype(np.int64), place) if classes.dtype.kind in "biuf" else ""
    if not label:
        names = [str(one) for one in classes.tolist()]
        label = node(
            "LabelEncoder",
            place,
            op_domain="ai.onnx.ml",
            op_version=2,
            keys_int64s=list(range(len(names))),
            values_strings=names,
        )
    container.add_node("Identity", [label], [operator.outputs[0].full_name])


def _one_calibrated(node: Nodes, scope: Any, operator: Any, container: Any, calibrated: Any) -> str:
    if calibrated.method not in ("sigmoid", "isotonic"):
        raise ConversionFailed(f"There is no converter for calibration by {calibrated.method!r}.")
    scores = _scores(scope, operator, container, calibrated.estimator)
    places = np.searchsorted(calibrated.classes, calibrated.estimator.classes_).tolist()
    count = len(calibrated.classes)
    found: dict[int, str] = {}
    for column, (place, calibrator) in enumerate(zip(places, calibrated.calibrators, strict=False)):
        column, place = (1, 1) if count == 2 else (column, place)
        value = node("Gather", scores, np.array([column]), axis=1)
        if calibrated.method == "isotonic":
            found[place] = _interpolated(node, calibrator, value)
        else:
            line = node("Add", node("Mul", value, np.array(-calibrator.a_)), np.array(-calibrator.b_))
            found[place] = node("Sigmoid", line)
    if count == 2:
        return node("Concat", node("Sub", np.array(1.0), found[1]), found[1], axis=1)
    nothing = node("Mul", next(iter(found.values())), np.array(0.0))
    every = node("Concat", *(found.get(place, nothing) for place in range(count)), axis=1)
    total = node("MatMul", every, np.ones((count, 1)))
    none = node("Equal", total, np.array(0.0))
    whole = node("Where", none, np.array(1.0), total)
    return node("Where", none, np.array(1.0 / count), node("Div", every, whole))


def _scores(scope: Any, operator: Any, container: Any, classifier: Any) -> str:
    """What a classifier inside says of each class: its decision function, or else its probabilities."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx._supported_operators import _get_sklearn_operator_name
    from skl2onnx.common import _registration as registration

    last = classifier.steps[-1][1] if hasattr(classifier, "steps") else classifier
    wanted = {"zipmap": False} | ({"raw_scores": True} if hasattr(classifier, "decision_function") else {})
    known = registration.get_converter(_get_sklearn_operator_name(type(last)))._options or {}
    for options in (scope, container):
        options.add_options(id(last), options={key: wanted[key] for key in wanted if key in known})
    name: str = _parse_sklearn(scope, classifier, operator.inputs)[1].full_name
    return name


# numpy's name of a function → the operators that compute it, of which ``x`` is the argument.
_FUNCTIONS: dict[str, Callable[[Nodes, str], str]] = {
    "log1p": lambda node, x: node("Log", node("Add", x, np.array(1.0))),
    "expm1": lambda node, x: node("Sub", node("Exp", x), np.array(1.0)),
    "log": lambda node, x: node("Log", x),
    "log2": lambda node, x: node("Div", node("Log", x), np.array(np.log(2.0))),
    "log10": lambda node, x: node("Div", node("Log", x), np.array(np.log(10.0))),
    "exp": lambda node, x: node("Exp", x),
    "exp2": lambda node, x: node("Pow", np.array(2.0), x),
    "sqrt": lambda node, x: node("Sqrt", x),
    "square": lambda node, x: node("Mul", x, x),
    "absolute": lambda node, x: node("Abs", x),
    "negative": lambda node, x: node("Neg", x),
    "reciprocal": lambda node, x: node("Div", np.array(1.0), x),
    "sin": lambda node, x: node("Sin", x),
    "cos": lambda node, x: node("Cos", x),
    "tanh": lambda node, x: node("Tanh", x),
}


def _apply(node: Nodes, function: Any, value: str) -> str:
    if function is None:
        return value
    name = getattr(function, "__name__", str(function))
    if name not in _FUNCTIONS:
        raise ConversionFailed(f"There is no ONNX operator for the function {name!r}.")
    return _FUNCTIONS[name](node, value)


def _function(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    node.finish(_apply(node, operator.raw_operator.func, node.joined(operator)), operator)


def _inverse(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    transformer, value = operator.raw_operator.transformer, node.joined(operator)
    for step in reversed([one for _, one in getattr(transformer, "steps", [("", transformer)])]):
        value = _inverted(node, step, value)
    node.finish(value, operator)


def _inverted(node: Nodes, step: Any, value: str) -> str:
    """Of a scaler: a straight line through what it answers to 0 and 1."""
    if type(step).__name__ == "FunctionTransformer":
        return _apply(node, step.inverse_func, value)
    if type(step).__name__ not in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        raise ConversionFailed(f"There is no converter for the inverse of a {type(step).__name__}.")
    width = step.n_features_in_
    low = np.asarray(step.inverse_transform(np.zeros((1, width))))
    slope = np.asarray(step.inverse_transform(np.ones((1, width)))) - low
    return node("Add", node("Mul", value, slope), low)
