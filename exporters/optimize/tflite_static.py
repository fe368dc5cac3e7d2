"""Static quantization of TFLite by ai-edge-quantizer: int8 inside, the source's dtypes at the borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import Artefact
from ..errors import OptimizationFailed, converting
from ..formats.torch_graph import quiet
from .base import Batches, Step
from .layers import report

_FULL_INTEGER = "full_integer"
_LAYERS = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_BORDERS = ("QUANTIZE", "DEQUANTIZE")
_ADVICE = " Use dynamic quantization, or remove optimization_config.quantization."


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the quantized model; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: the option quantization is full_integer, and an operator has no integer form.
    """
    from ai_edge_quantizer import quantizer, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    data = step.data
    assert data is not None
    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for border in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", border, algorithm_key=AlgorithmName.NO_QUANTIZE)
    with converting("ai-edge-quantizer cannot quantize this model", "static", _ADVICE), quiet():
        tool = quantizer.Quantizer(bytearray(step.path.read_bytes()), recipe.get_quantization_recipe())
        batches = Batches(data, step.config["calibration_samples"])
        ranges = tool.calibrate({_signature(step.path): batches}, num_threads=1)
        content = tool.quantize(
            ranges, enable_progress_report=False, enable_progress_bar=False
        ).quantized_model
        path = step.folder / step.artefact.files[0]
        path.write_bytes(bytes(content))
        in_float = _in_float(path)
        full = step.options["quantization"] == _FULL_INTEGER
        others = [name for name in in_float if name.rpartition("_")[0] not in _LAYERS]
        if full and in_float:
            raise OptimizationFailed(
                f"These operators have no integer form: {', '.join(in_float[:20])}. Remove "
                "quantization=full_integer to keep them in float.",
                operators=in_float,
            )
    every = _layers(path)
    quantized = [name for name in every if name not in in_float]
    artefact = step.result(step.artefact.files, "int8")
    return artefact, {**report(quantized, every), "other_operators_in_float": others, "full_integer": full}


def _signature(path: Path) -> str:
    from ai_edge_litert.interpreter import Interpreter

    (name,) = Interpreter(model_path=str(path)).get_signature_list()
    return str(name)


def _operators(path: Path) -> list[tuple[str, set[str]]]:
    """Return the name, KIND_NUMBER, of each operator, and the dtypes of its tensors."""
    from ai_edge_litert.interpreter import Interpreter

    # Without the delegate, which replaces operators by one of its own.
    interpreter = Interpreter(model_path=str(path), experimental_op_resolver_type=_plain())
    dtypes = {one["index"]: one["dtype"].__name__ for one in interpreter.get_tensor_details()}
    return [
        (
            f"{one['op_name']}_{one['index']}",
            {dtypes[index] for index in (*one["inputs"], *one["outputs"]) if index in dtypes},
        )
        for one in interpreter._get_ops_details()
    ]


def _plain() -> Any:
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def _layers(path: Path) -> list[str]:
    return [name for name, _ in _operators(path) if name.rpartition("_")[0] in _LAYERS]


def _in_float(path: Path) -> list[str]:
    """Return the operators that compute in float."""
    return [
        name
        for name, dtypes in _operators(path)
        if "float32" in dtypes and name.rpartition("_")[0] not in _BORDERS
    ]
