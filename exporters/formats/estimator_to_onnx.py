"""scikit-learn, XGBoost and LightGBM to ONNX: skl2onnx, and onnxmltools' converters within it.

- ``float32`` computes in the dtype of the input, which is fastest in runtimes. A scaler before a tree can
  round a row to the other side of a threshold (onnxruntime#11284).
- ``float64`` casts the input first and computes like scikit-learn, as far as the operators support it. It is
  tried first for trees behind other steps, and second for everything else. With the option ``float64``, which
  makes the input float64, it is the only one.

In both cases ``onnx_trees`` sets the nodes of trees to the source's, and the rows of ``Source.probes`` are
compared.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base import ESTIMATOR, Artefact, Case, Source
from ..errors import ConversionFailed, UnsupportedOption, converting
from . import onnx_file, torch_graph
from .torch_to_onnx import DEFAULT_OPSET, ToOnnx, check_names

FLOAT32 = "float32"
FLOAT64 = "float64"
_ML_OPSET = 3  # of ai.onnx.ml: the first whose trees hold float64
_TYPES = {"float32": 1, "int64": 7, "float64": 11}  # onnx.TensorProto.DataType
_STRING = 8
# skl2onnx's names of the scores of a classifier without probabilities, and of a Gaussian process's mean.
_SYNONYMS = {"scores": ("probabilities",), "variable": ("GPmean",)}


class EstimatorToOnnx(ToOnnx):
    takes = (ESTIMATOR,)
    modules = ("sklearn", "skl2onnx", "onnxmltools", "onnx", "onnxruntime")

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        import skl2onnx

        from ..sources import trees

        highest = skl2onnx.__max_supported_opset__
        if (options["opset_version"] or DEFAULT_OPSET) > highest:
            raise UnsupportedOption(
                f"opset_version={options['opset_version']} is not supported for estimators. Use 13 "
                f"to {highest}.",
                allowed=[13, highest],
                option="opset_version",
            )
        if source.inputs[0].dtype == FLOAT64:
            return (FLOAT64,)
        # A preceding step in float32 may round a value to the other side of a threshold.
        return (FLOAT64, FLOAT32) if trees.follow_other_steps(source.program) else (FLOAT32, FLOAT64)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.onnx`` into ``folder``.

        Raises:
            ConversionFailed: no converter for this estimator, or none for it in float64.
        """
        from . import onnx_doubles, onnx_trees, onnx_types

        check_names(source, example, options)
        opset = options["opset_version"] or DEFAULT_OPSET
        takes_float64 = source.inputs[0].dtype == FLOAT64
        failure = f"A {type(source.program).__name__} cannot be converted with {converter}"
        advice = f" {onnx_doubles.ADVICE}" if takes_float64 else ""
        with converting(failure, converter, advice), torch_graph.quiet(), _unrounded_and_mixed():
            model = _convert(source, opset, converter)
            _declare(model, opset)
            nodes = onnx_trees.repair(model, source.program, double=converter == FLOAT64)
            if converter == FLOAT64:
                onnx_types.widen(model)
            _finish(model, source, example, converter)
            if options["simplify"]:
                model = onnx_file.simplify(model)
            files = onnx_file.write(model, folder, source)
            if takes_float64:
                onnx_doubles.require_kernels(folder / files[0])
        details: dict[str, Any] = {"opset_version": onnx_file.opset(model)}
        if nodes:
            details["tree_nodes_compared"] = nodes
        if takes_float64:
            details["float32_operators"] = onnx_doubles.float32_operators(model)
        return Artefact(files, converter, details)


EXPORTER = EstimatorToOnnx()


def _convert(source: Source, opset: int, converter: str) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    from . import normal_form, onnx_converters

    onnx_converters.register()
    estimator, spec = normal_form.of(source.program), source.inputs[0]
    kind = FloatTensorType if converter == FLOAT32 else DoubleTensorType
    # raw_scores: for a classifier without probabilities, the output of its decision function. A pipeline's
    # options apply to its last step, including zipmap, which some classifiers do not have.
    for target in dict.fromkeys((id(estimator), id(_last(estimator)))):
        for wanted in ({"zipmap": False, "raw_scores": True}, {"zipmap": False}, {"raw_scores": True}, {}):
            if wanted.get("raw_scores") and hasattr(estimator, "predict_proba"):
                continue
            try:
                return skl2onnx.to_onnx(
                    estimator,
                    initial_types=[(spec.name, kind([None, spec.shape[1]]))],
                    options={target: wanted} if wanted else None,
                    target_opset={"": opset, "ai.onnx.ml": _ML_OPSET},
                )
            except NameError:  # skl2onnx's error for an option that this estimator does not have
                continue
    raise ConversionFailed("skl2onnx supports none of the options that this estimator needs.")


def _last(estimator: Any) -> Any:
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def _declare(model: Any, opset: int) -> None:
    """Declare the requested opset: skl2onnx declares the oldest one that has all its operators."""
    from onnx import helper

    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)])


def _finish(model: Any, source: Source, example: Case, converter: str) -> None:
    """Give the model the source's interface: names, dtypes and order of outputs, and the input's dtype."""
    from onnx import helper

    graph = model.graph
    theirs = {value.name: value for value in graph.output}
    batch = source.inputs[0].shape[0]
    outputs, nodes = [], []
    for name in example.expected.keys() - theirs.keys():  # a step inside has taken the name
        _rename(graph, name, f"{name}_of_a_step")
    for name, array in example.expected.items():
        found = next((theirs[one] for one in (name, *_SYNONYMS.get(name, ())) if one in theirs), None)
        if found is None and len(theirs) == len(example.expected) == 1:
            (found,) = theirs.values()
        if found is None:
            raise ConversionFailed(f"The converter produces {', '.join(theirs)}, but not {name!r}.")
        _rename(graph, found.name, f"{name}_raw")
        current = f"{name}_raw"
        if found.type.tensor_type.elem_type == _STRING:
            classes = [str(label) for label in source.program.classes_.tolist()]
            places = list(range(len(classes)))
            nodes.append(
                helper.make_node(
                    "LabelEncoder",
                    [current],
                    [f"{name}_place"],
                    domain="ai.onnx.ml",
                    keys_strings=classes,
                    values_int64s=places,
                )
            )
            current = f"{name}_place"
        nodes.append(helper.make_node("Cast", [current], [f"{name}_cast"], to=_TYPES[str(array.dtype)]))
        shape = [-1, *array.shape[1:]]
        graph.initializer.append(helper.make_tensor(f"{name}_shape", _TYPES["int64"], [len(shape)], shape))
        nodes.append(helper.make_node("Reshape", [f"{name}_cast", f"{name}_shape"], [name]))
        outputs.append(
            helper.make_tensor_value_info(name, _TYPES[str(array.dtype)], [batch, *array.shape[1:]])
        )
    del graph.output[:]
    graph.output.extend(outputs)
    graph.node.extend(nodes)
    if converter == FLOAT64 and source.inputs[0].dtype == FLOAT32:
        _widen_input(graph, source.inputs[0].name)


def _widen_input(graph: Any, name: str) -> None:
    from onnx import helper

    _rename(graph, name, f"{name}_wide")
    graph.input[0].name = name
    graph.input[0].type.tensor_type.elem_type = _TYPES["float32"]
    graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_wide"], to=_TYPES["float64"]))


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if one == old else one for one in names]


@contextmanager
def _unrounded_and_mixed() -> Iterator[None]:
    """Patch two functions of skl2onnx.

    Its search for a float32 threshold never ends on an infinite one; ``onnx_trees`` sets the thresholds. It
    also refuses a mix of float32 and float64, for example after trees; ``onnx_types`` inserts the casts.
    """
    from skl2onnx.algebra import graph_state
    from skl2onnx.common import tree_ensemble

    search = tree_ensemble.sklearn_threshold
    tree_ensemble.sklearn_threshold = lambda threshold, dtype, mode: threshold
    constraints = graph_state.GraphState._update_contraints
    graph_state.GraphState._update_contraints = staticmethod(_mixing(constraints))
    try:
        yield
    finally:
        tree_ensemble.sklearn_threshold = search
        graph_state.GraphState._update_contraints = staticmethod(constraints)


def _mixing(constraints: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            constraints(*args, **kwargs)
        except RuntimeError as exc:
            if "FloatTensorType" not in str(exc) or "DoubleTensorType" not in str(exc):
                raise

    return run
