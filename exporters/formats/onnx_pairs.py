"""OneVsOneClassifier with two classes: skl2onnx omits the vote from the first class's score."""

from typing import Any

import numpy as np

from ..errors import ConversionFailed
from .onnx_nodes import Nodes

_ONE = np.array(1.0)


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add one vote and a confidence scaled below a third, like scikit-learn's ``_ovr_decision_function``."""
    from skl2onnx.common.data_types import guess_proto_type
    from skl2onnx.operator_converters import one_vs_one_classifier as theirs
    from sklearn.base import is_regressor

    model = operator.raw_operator
    if len(model.classes_) != 2:
        theirs.convert_one_vs_one_classifier(scope, operator, container)
        return
    (member,) = model.estimators_
    if is_regressor(member):
        raise ConversionFailed("There is no converter for a OneVsOneClassifier of regressors.")
    node = Nodes(scope, operator, container)
    kind = operator.inputs[0].type
    _, vote, confidence = theirs._iteration_one_versus(
        scope, container, operator.inputs, 0, member, type(kind), guess_proto_type(kind)
    )
    share = node("Mul", node("Add", node("Abs", confidence), _ONE), np.array(3.0))
    score = node("Add", vote, node("Div", confidence, share))
    least = 0.0 if hasattr(member, "decision_function") else 0.5
    place = node("Cast", node("Greater", score, np.array(least)), to="int64")
    node.finish_label(node("Reshape", place, np.array([-1])), operator)
    node.finish(node("Concat", node("Neg", score), score, axis=1), operator, 1)
