"""Static quantization of OpenVINO IR by NNCF, with or without its accuracy control."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any

from ..base import Arrays, Artefact
from ..errors import converting
from ..formats import openvino_file
from ..formats.torch_graph import quiet
from ..runners.openvino import runtime
from .base import Batches, Step
from .layers import check_names, report

_ADVICE = " Use dynamic quantization, or remove optimization_config.quantization."
_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
_INTEGERS = ("i8", "u8")


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the quantized IR; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: ``keep_float`` names a layer that the model does not have.
    """
    data = step.data
    assert data is not None
    with (
        converting("NNCF cannot quantize this model", "static", _ADVICE),
        quiet(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        import nncf

        model = runtime().Core().read_model(step.path)
        every = [node.get_friendly_name() for node in _layers(model)]
        kept = step.config["keep_float"]
        batches = Batches(data, step.config["calibration_samples"])
        common: dict[str, Any] = {
            "preset": nncf.QuantizationPreset.MIXED,  # asymmetric ranges for activations that can be negative
            "subset_size": sum(1 for _ in batches),
            "model_type": nncf.ModelType.TRANSFORMER if _has_attention(step) else None,
        }
        if kept == "auto":
            model = nncf.quantize_with_accuracy_control(
                model,
                nncf.Dataset(batches),
                nncf.Dataset(batches),
                lambda compiled, _: (1 - data.drop(lambda inputs: _predict(compiled, step, inputs)), None),
                max_drop=data.allowed_drop,
                **common,
            )
        else:
            check_names(kept, every)
            scope = nncf.IgnoredScope(names=kept) if kept else None
            model = nncf.quantize(model, nncf.Dataset(batches), ignored_scope=scope, **common)
        found = [node.get_friendly_name() for node in _layers(model) if _has_integers(node)]
        openvino_file.save(model, step.source, step.example, step.folder)
    return (
        step.result((openvino_file.NAME, openvino_file.DATA), "int8", precision="INT8"),
        report(found, every),
    )


def _predict(compiled: Any, step: Step, inputs: Arrays) -> Arrays:
    answers = compiled([inputs[spec.name] for spec in step.source.inputs])
    return {name: answers[number] for number, name in enumerate(step.example.expected)}


def _has_attention(step: Step) -> bool:
    return any("attention" in name for name in step.source.operators)


def _layers(model: Any) -> Iterable[Any]:
    """Return the nodes with constant weights, also after their quantization."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS and _weights(node)]


def _has_integers(node: Any) -> bool:
    return _weights(node).get_element_type().get_type_name() in _INTEGERS


def _weights(node: Any) -> Any:
    """Return the constant behind the second input's conversions and scales; None: there is none."""
    found = node.input_value(1).get_node()
    while found.get_type_name() in (
        "Convert",
        "Multiply",
        "Subtract",
        "Reshape",
        "FakeQuantize",
        "Transpose",
    ):
        found = found.input_value(0).get_node()
    return found if found.get_type_name() == "Constant" else None
