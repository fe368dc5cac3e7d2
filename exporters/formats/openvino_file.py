"""The OpenVINO IR: its options, and the writing of ``model.xml`` and ``model.bin``.

The inputs and outputs keep the source's names. All other names and the record of the conversion are removed:
OpenVINO numbers nodes per process, and equal models must give equal bytes.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import imports
from ..base import Arrays, Artefact, Case, Exporter, Source, TensorSpec
from ..errors import ConversionFailed, UnsupportedOption
from ..options import Option, Specification
from ..runners.openvino import AXES_INFO, DTYPES, runtime
from . import openvino_repairs, torch_graph

NAME = "model.xml"
DATA = "model.bin"
_PRECISIONS = ("FP32", "FP16", "INT8")
_ARGUMENTS = ("data_type", "reverse_input_channels")
_COMPUTES_IN = {"FP32": None, "FP16": "float16", "INT8": "int8"}


def _check(options: Mapping[str, Any]) -> None:
    arguments = options["model_optimizer_args"] or {}
    for name, value in arguments.items():
        if name not in _ARGUMENTS:
            raise _refused(f"has no {name!r}; supported are {' and '.join(_ARGUMENTS)}", list(_ARGUMENTS))
        if name == "data_type" and value not in _PRECISIONS:
            raise _refused(f"needs a data_type of {', '.join(_PRECISIONS)}", list(_PRECISIONS))
        if name == "reverse_input_channels" and not isinstance(value, bool):
            raise _refused("needs true or false for reverse_input_channels", [True, False])
    wanted = {options["precision"], arguments.get("data_type")} - {None}
    if len(wanted) > 1:
        raise UnsupportedOption(
            "precision and the data_type of model_optimizer_args are the same setting, but differ. "
            "Remove one of them.",
            allowed=list(_PRECISIONS),
            option="precision",
        )


def _refused(what: str, allowed: list[Any]) -> UnsupportedOption:
    return UnsupportedOption(f"model_optimizer_args {what}.", allowed=allowed, option="model_optimizer_args")


SPECIFICATION = Specification(
    name="openvino",
    extension=".xml",
    embeds=True,
    options={
        "precision": Option(
            "string",
            None,
            "Precision of the weights: FP32 (default), FP16 (half the size), or INT8 (a quarter of "
            "the size; one scale per output channel, activations keep their precision, so no "
            "calibration data is needed).",
            _PRECISIONS,
        ),
        "model_optimizer_args": Option(
            "object",
            None,
            'Arguments of OpenVINO\'s former model optimizer: {"data_type": "FP16", '
            '"reverse_input_channels": true}. data_type is another name for precision. With '
            "reverse_input_channels the artefact takes BGR images if the model takes RGB, and RGB "
            "images if the model takes BGR.",
        ),
    },
    check=_check,
)


def precision(options: Mapping[str, Any]) -> str:
    """Return FP32, FP16 or INT8."""
    arguments = options["model_optimizer_args"] or {}
    return str(options["precision"] or arguments.get("data_type") or "FP32")


class ToOpenVINO(Exporter):
    """A conversion to OpenVINO, of any family."""

    specification = SPECIFICATION

    def requires(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self.modules, "nncf") if precision(options) == "INT8" else self.modules

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: with reversed colour channels of images, if requested."""
        images = _images(source, options)
        if not images:
            return source

        def reference(arrays: Arrays) -> Arrays:
            return source.reference(
                {name: array[:, ::-1].copy() if name in images else array for name, array in arrays.items()}
            )

        return replace(source, reference=reference)


def write(
    model: Any, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
) -> Artefact:
    """Write an ``openvino.Model``, its inputs and outputs in the source's order, into ``folder``.

    Raises:
        ConversionFailed: its inputs or outputs are not the source's, or an output has no fixed rank.
    """
    wanted = precision(options)
    names = [spec.name for spec in source.inputs]
    model = _with_unused_inputs(openvino_repairs.repair(model), source)
    if len(model.inputs) != len(names) or len(model.outputs) != len(example.expected):
        raise ConversionFailed(
            f"OpenVINO's model has {len(model.inputs)} inputs and {len(model.outputs)} outputs, its "
            f"source {len(names)} and {len(example.expected)}."
        )
    model.reshape(
        {
            port: [-1 if isinstance(size, str) else size for size in spec.shape]
            for port, spec in zip(model.inputs, source.inputs, strict=True)
        }
    )
    images = _images(source, options)
    if images:
        model = _reverse_channels(model, [names.index(name) for name in images])
    if wanted == "INT8":
        model = _compress(model)
    save(model, source, example, folder, half=wanted == "FP16")
    own = "bfloat16" if torch_graph.has_bfloat16(source) else None
    details: dict[str, Any] = {"precision": wanted, "reverse_input_channels": bool(images)}
    return Artefact((NAME, DATA), converter, details, precision=_COMPUTES_IN[wanted] or own)


def save(model: Any, source: Source, example: Case, folder: Path, *, half: bool = False) -> None:
    """Write the model with the source's names and without a record of its making. ``half``: FP16 weights."""
    _name(model, [spec.name for spec in source.inputs], list(example.expected))
    for key in list(model.rt_info.keys()):
        del model.rt_info[key]
    axes = {spec.name: list(spec.shape) for spec in (*source.inputs, *_outputs(model, source, example))}
    model.set_rt_info(json.dumps(axes), AXES_INFO)
    runtime().save_model(model, folder / NAME, compress_to_fp16=half)


def _images(source: Source, options: Mapping[str, Any]) -> list[str]:
    """Return the inputs whose channels are reversed: those with three channels, as in the model optimizer.

    Raises:
        UnsupportedOption: it is requested, and there is no such input.
    """
    if not (options["model_optimizer_args"] or {}).get("reverse_input_channels"):
        return []
    images = [spec.name for spec in source.inputs if len(spec.shape) == 4 and spec.shape[1] == 3]
    if not images:
        raise UnsupportedOption(
            "reverse_input_channels needs an input of the shape [batch, 3, height, width]; the model has "
            f"none: {', '.join(f'{spec.name} {list(spec.shape)}' for spec in source.inputs)}.",
            allowed=[False],
            option="model_optimizer_args",
        )
    return images


def _reverse_channels(model: Any, indices: Iterable[int]) -> Any:
    openvino = runtime()
    steps = openvino.preprocess.PrePostProcessor(model)
    for index in indices:
        layout = openvino.Layout("NCHW")
        steps.input(index).tensor().set_layout(layout)
        steps.input(index).model().set_layout(layout)
        steps.input(index).preprocess().reverse_channels()
    return steps.build()


def _compress(model: Any) -> Any:
    """Compress weights to 8 bits, asymmetric, one scale per output channel; deterministic."""
    imports.require("nncf", "INT8 needs it: pip install 'model-service[formats]'.")
    import nncf

    with torch_graph.quiet(), contextlib.redirect_stdout(io.StringIO()):  # it logs, and prints a progress bar
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)


def _with_unused_inputs(model: Any, source: Source) -> Any:
    """Return the model with the unused inputs, which OpenVINO's readers drop."""
    import numpy as np

    openvino = runtime()
    found = {name: port.get_node() for port in model.inputs for name in port.get_names()}
    known = [found[spec.name] for spec in source.inputs if spec.name in found]
    if len(model.inputs) == len(source.inputs) or len(known) != len(model.inputs):
        return model
    parameters = [
        found.get(spec.name)
        or openvino.opset13.parameter(
            [-1 if isinstance(size, str) else size for size in spec.shape], np.dtype(spec.dtype).type
        )
        for spec in source.inputs
    ]
    return openvino.Model(model.get_results(), parameters)


def _name(model: Any, inputs: list[str], outputs: list[str]) -> None:
    _separate(model)
    _number(model)
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, outputs, strict=True):
        port.get_node().set_friendly_name(name)
        port.get_tensor().add_names({name})


def _separate(model: Any) -> None:
    """Put an identity before each output that is an input: a shared tensor would lose the input's name."""
    openvino = runtime()
    for result in model.get_results():
        value = result.input_value(0)
        if value.get_node().get_type_name() == "Parameter":
            identity = openvino.opset13.convert(value, value.get_element_type().get_type_name())
            result.input(0).replace_source_output(identity.output(0))
    model.validate_nodes_and_infer_types()


def _number(model: Any) -> None:
    """Name every node by its kind and index, also in the bodies of loops and branches."""
    model.set_friendly_name("model")
    for index, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        node.set_friendly_name(f"{kind}_{index}")
        for port in node.outputs():
            port.get_tensor().set_names(set())
        if kind == "If":
            _number(node.get_function(0))
            _number(node.get_function(1))
        elif hasattr(node, "get_function"):
            _number(node.get_function())


def _outputs(model: Any, source: Source, example: Case) -> list[TensorSpec]:
    """Return the outputs with a name for every axis that the graph leaves open, or the inferred size."""
    specs = []
    for port, spec in zip(model.outputs, torch_graph.output_specs(source, example), strict=True):
        dtype = port.element_type.get_type_name()
        if dtype not in DTYPES:
            raise ConversionFailed(
                f"The output {spec.name!r} is {dtype}, which numpy does not support. Cast it to "
                "float32 in the model."
            )
        if port.partial_shape.rank.is_dynamic:
            raise ConversionFailed(
                f"The number of axes of the output {spec.name!r} depends on the values of an input, "
                "but OpenVINO needs a fixed number. Make those values constants of the model."
            )
        shape = tuple(
            size.get_length() if size.is_static else known if isinstance(known, str) else f"dim_{axis}"
            for axis, (size, known) in enumerate(zip(port.partial_shape, spec.shape, strict=True))
        )
        specs.append(TensorSpec(spec.name, spec.dtype, shape))
    return specs
