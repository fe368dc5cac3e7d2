"""torch to TFLite (LiteRT), by litert-torch.

litert-torch lowers fixed shapes only, so the sizes are chosen during the conversion: a batch of 1, as phones
use it. The axes keep the source's order: nothing is transposed to NHWC.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Exporter, Source
from ..errors import converting
from ..options import Option, Specification
from . import torch_graph, torch_module

LITERT = "litert"
_FILE = "model.tflite"
_WIDE = ("int64", "float64")


SPECIFICATION = Specification(
    name="tflite",
    extension=".tflite",
    options={
        "quantization": Option(
            "string",
            "none",
            "dynamic: weights of int8, activations of float32. full_integer: every operator computes in "
            "int8; it needs the static quantization of optimization_config.",
            ("none", "dynamic", "full_integer"),
        ),
        "supported_ops": Option(
            "array",
            ["TFLITE_BUILTINS"],
            "The operators that the artefact may use. It uses built-in ones only.",
            (["TFLITE_BUILTINS"], ["TFLITE_BUILTINS", "SELECT_TF_OPS"]),
        ),
        "fixed_sizes": Option(
            "object",
            {},
            'Sizes of axes that the model leaves open, by name: {"batch": 4}. Default: a batch '
            "of 1, the traced sizes for all other axes.",
        ),
    },
    embeds=True,
    fixes_sizes=True,
)


class TorchToTFLite(Exporter):
    specification = SPECIFICATION
    takes = (PROGRAM, SCRIPT)
    modules = ("torch", "litert_torch", "ai_edge_litert", "ai_edge_quantizer")
    advice = "pip install --no-deps -r requirements-formats.txt."

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: with every axis fixed."""
        from ..proof import cases

        return cases.fixed(source, options["fixed_sizes"])

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return (LITERT,)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.tflite`` into ``folder``; its only signature has the source's names.

        Raises:
            ConversionFailed: an operator that is not built in, or a shape that depends on values.
        """
        quantized = options["quantization"] == "dynamic"
        with converting("litert-torch cannot convert this model", converter), torch_graph.quiet(), _silent():
            model = _lower(torch_graph.in_float32(source, example), example)
            if quantized:
                model = _quantize(model)
        (folder / _FILE).write_bytes(model)
        precision = "int8" if quantized else "bfloat16" if torch_graph.has_bfloat16(source) else None
        return Artefact((_FILE,), converter, {"quantization": options["quantization"]}, precision)


EXPORTER = TorchToTFLite()


def _lower(source: Source, example: Case) -> bytes:
    """Convert to TFLite. 64-bit numbers become 32-bit, unless an input or output is 64-bit."""
    import litert_torch

    dtypes = {spec.dtype for spec in source.inputs} | {
        str(array.dtype) for array in example.expected.values()
    }
    model = litert_torch.convert(
        torch_module.as_program(source, example).module(),
        (),
        torch_module.example_keywords(source, example),
        enable_x64=bool(dtypes & set(_WIDE)),
    )
    content: bytes = model.model_content()
    return content


def _quantize(model: bytes) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    result = quantizer.Quantizer(bytearray(model), recipe.dynamic_wi8_afp32()).quantize()
    return bytes(result.quantized_model)


@contextmanager
def _silent() -> Iterator[None]:
    """Disable litert-torch's progress bar through the environment."""
    name = "LITERT_TORCH_SHOW_PROGRESS"
    before = os.environ.get(name)
    os.environ[name] = "n"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
