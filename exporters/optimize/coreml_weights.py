"""Weights of Core ML in 8 bits, or as indices into tables, by coremltools. Activations stay in float.

The result cannot run here; its declared inputs and outputs are checked.
"""

from __future__ import annotations

from typing import Any

from ..base import Artefact
from ..errors import converting
from ..formats import coreml_package
from ..formats.torch_graph import quiet
from .base import Step
from .layers import report

_PALETTIZATION = "palettization"
_LEAST_WEIGHTS = 512  # smaller tensors stay: their scales or tables would be as large
_WEIGHTS = {"conv": "weight", "conv_transpose": "weight", "linear": "weight", "matmul": "y"}


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the compressed package; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: no weight is large enough.
    """
    import coremltools
    from coremltools.optimize import coreml

    palette = step.config["method"] == _PALETTIZATION
    with converting("coremltools cannot compress this model", step.config["method"]), quiet():
        model = coremltools.models.MLModel(str(step.path.parent), skip_model_load=True)
        if palette:
            config = coreml.OpPalettizerConfig(
                mode="kmeans", nbits=step.config["bits"], weight_threshold=_LEAST_WEIGHTS
            )
            model = coreml.palettize_weights(model, coreml.OptimizationConfig(global_config=config))
        else:
            config = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=_LEAST_WEIGHTS)
            model = coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=config))
        files = coreml_package.write(
            model, step.folder, step.source, step.example, step.options["compute_units"]
        )
        coreml_package.check(step.folder / files[0], step.source, step.example)
        every, compressed = _layers(model)
    return step.result(files, "int8"), report(compressed, every)


def _layers(model: Any) -> tuple[list[str], list[str]]:
    """Return the names of the layers with constant weights, and of those whose weights are compressed."""
    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    makers = {output.name: made.type for made in block.operations for output in made.outputs}
    every, compressed = [], []
    for operation in block.operations:
        if operation.type in _WEIGHTS:
            kind = makers.get(operation.inputs[_WEIGHTS[operation.type]].arguments[0].name, "")
            name = operation.outputs[0].name
            every += [name] if kind.startswith("const") else []
            compressed += [name] if kind.startswith("constexpr") else []
    return every, compressed
