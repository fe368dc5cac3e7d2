"""Decide whether the cost of an ONNX model's run is bounded by the shapes of its inputs.

The cost is bounded if the model has no control flow, every operator is on a list, and no size argument of an
operator (the shape of an Expand, the length of a Range) depends on the values of an input. A size may be
computed from shapes, by a polynomial of low degree. A model outside these rules may still be correct and
fast, but its cost is not known for every input.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..package import METADATA


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Larger files are not read for this check: compared with their runs, a process of its own costs nothing.
_LARGEST_READ_BYTES = 256 << 20

# Operators whose cost is a small polynomial of the inputs' sizes.
_BOUNDED = _words(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant Conv
    ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp EyeLike Flatten Floor GRU Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul
    MatMulInteger Max MaxPool MaxRoiPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg
    NonMaxSuppression Not Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape ReverseSequence RoiAlign RotaryEmbedding Round Scatter
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
    ThresholdedRelu TopK Transpose Trilu Unsqueeze Where Xor
    """
)
_BOUNDED_ML = _words(
    """
    ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
    TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
    """
)
# Operator → the indices of its inputs that are sizes.
_SIZES: Mapping[str, Sequence[int]] = {
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# Operators that compute sizes from sizes without raising the degree.
_OF_SIZES = _words(
    """
    Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Div Equal Expand Flatten Floor Gather
    GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Neg Not Or Range
    ReduceMax ReduceMin ReduceSum Reshape Round ScatterElements ScatterND Sign Slice Split Squeeze Sub Sum
    Tile Transpose Unsqueeze Where
    """
)
_LARGEST_DEGREE = 4
_UNKNOWN = 1000  # the degree of a value that depends on an input's values


def has_bounded_cost(folder: Path) -> bool:
    """Return whether an unpacked package's artefact is ONNX of bounded cost. Metadata can only deny that."""
    try:
        metadata = json.loads((folder / METADATA).read_bytes())
        is_onnx = metadata["model_info"]["export_format"] == "onnx"
        path = folder / metadata["artefact"]["files"][0]
        refused = (metadata.get("cost") or {}).get("bounded") is False
        small = path.stat().st_size <= _LARGEST_READ_BYTES
        return is_onnx and small and not refused and not unbounded(path)
    except Exception:
        return False  # an unreadable package has no known cost


def unbounded(path: Path) -> list[str]:
    """Return the parts of the model whose cost may be unbounded, sorted; an empty list means bounded cost.

    The parts are operators and functions. External data is not read. If the file is not a model, the error of
    onnx is raised unchanged.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    found = {f"the function {function.name}" for function in model.functions}
    degrees = {tensor.name: 0 for tensor in model.graph.initializer}
    degrees |= {tensor.values.name: 0 for tensor in model.graph.sparse_initializer}
    # An initializer that is also an input is only a default value: the caller may send another one.
    degrees |= {value.name: _UNKNOWN for value in model.graph.input}
    for node in model.graph.node:
        if (what := _objection(node, degrees)) is not None:
            found.add(what)
        degree = _degree(node, degrees)
        degrees.update(dict.fromkeys(node.output, degree))
    return sorted(found)


def _objection(node: Any, degrees: Mapping[str, int]) -> str | None:
    import onnx

    operator = str(node.op_type)
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    if any(attribute.type in graphs for attribute in node.attribute):
        return operator
    if node.domain == "ai.onnx.ml":
        return None if operator in _BOUNDED_ML else f"ai.onnx.ml.{operator}"
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{operator}"
    if operator in _SIZES:
        given = [node.input[at] for at in _SIZES[operator] if at < len(node.input) and node.input[at]]
        largest = max((degrees.get(name, _UNKNOWN) for name in given), default=0)
        return None if largest <= _LARGEST_DEGREE else f"{operator} of a size from an input's values"
    return None if operator in _BOUNDED else operator


def _degree(node: Any, degrees: Mapping[str, int]) -> int:
    """Return the degree of the node's outputs as polynomials of the inputs' sizes; 0 means constant."""
    given = [degrees.get(name, _UNKNOWN) for name in node.input if name]
    if node.domain not in ("", "ai.onnx"):
        return _UNKNOWN
    if node.op_type in ("Shape", "Size"):
        return 1
    largest = max(given, default=0)
    if node.op_type == "Mul":
        largest = sum(given)
    elif node.op_type not in _OF_SIZES and largest:
        return _UNKNOWN
    return min(largest, _UNKNOWN)
