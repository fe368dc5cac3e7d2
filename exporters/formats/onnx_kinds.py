"""Register a converter in skl2onnx: the kind of estimator determines its outputs."""

from collections.abc import Callable
from typing import Any

Convert = Callable[[Any, Any, Any], None]  # (scope, operator, container)
_CLASSIFIES = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def transformer(model: type, convert: Convert, width: Callable[[Any], int]) -> None:
    """Register for one output of floats, with ``width`` columns. Used for regressors too."""

    def shape(operator: Any) -> None:
        operator.outputs[0].type = _floats(operator)([None, width(operator.raw_operator)])

    _register(model, convert, shape, parser=_parser("variable"))


def classifier(model: type, convert: Convert) -> None:
    """Register for a label, and the probability of each class."""
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    _register(model, convert, calculate_linear_classifier_output_shapes, options=_CLASSIFIES)


def finder(model: type, convert: Convert, width: Callable[[Any], int]) -> None:
    """Register for a label and ``width`` scores, for finders of clusters or outliers."""
    from skl2onnx.common.data_types import Int64TensorType

    def shape(operator: Any) -> None:
        operator.outputs[0].type = Int64TensorType([None])
        operator.outputs[1].type = _floats(operator)([None, width(operator.raw_operator)])

    _register(model, convert, shape, parser=_parser("label", "scores"))


def _parser(*names: str) -> Callable[..., Any]:
    """Declare the outputs. skl2onnx would use the parent classes': too many for FeatureAgglomeration."""

    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        from skl2onnx.common.data_types import Int64TensorType

        operator = scope.declare_local_operator(_alias(type(model)), model)
        operator.inputs = inputs
        for name in names:
            kind = Int64TensorType if name == "label" else _floats(operator)
            operator.outputs.append(scope.declare_local_variable(name, kind()))
        return operator.outputs

    return parse


def _register(model: type, convert: Convert, shape: Callable[[Any], None], **more: Any) -> None:
    from skl2onnx import update_registered_converter

    update_registered_converter(model, _alias(model), shape, convert, **more)


def _alias(model: type) -> str:
    return f"Our{model.__name__}"


def _floats(operator: Any) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    wide = any(isinstance(one.type, DoubleTensorType) for one in operator.inputs)
    return DoubleTensorType if wide else FloatTensorType
