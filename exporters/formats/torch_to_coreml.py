"""torch to Core ML by coremltools: an ML program in an ``.mlpackage``. It has four converters:

- ``program`` walks the exported program.
- ``script`` walks TorchScript compiled from it, or the TorchScript source: used for recurrent layers.
- ``decomposed`` walks the exported program in smaller operators.
- ``frozen`` walks the TorchScript source with its constants folded, which removes branches.

A trace of an exported program is not used, because it fixes the batch size.

The result cannot run here; its declared inputs and outputs are checked instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Dimension, Exporter, Source
from ..errors import converting
from ..options import Option, Specification
from . import coreml_package, torch_graph, torch_module

BY_PROGRAM = "program"
BY_SCRIPT = "script"
DECOMPOSED = "decomposed"
FROZEN = "frozen"

_OLD = "an ML program needs iOS15, macOS12, watchOS8 or tvOS15"
_TARGETS = tuple(
    f"{system}{version}"
    for system, versions in {
        "iOS": (15, 16, 17, 18, 26),
        "macOS": (12, 13, 14, 15, 26),
        "watchOS": (8, 9, 10, 11, 26),
        "tvOS": (15, 16, 17, 18, 26),
    }.items()
    for version in versions
)
# Older systems have no operators for compressed weights; coremltools would raise the target by itself.
COMPRESSED_TARGETS = tuple(
    name for name in _TARGETS if name not in ("iOS15", "macOS12", "watchOS8", "tvOS15")
)
# coremltools needs a maximum for every range; these are used if the model has none.
_MAXIMUM_BATCH = 128
_MAXIMUM_SIZE = 1024
_MAXIMUM_TIMES_EXAMPLE = 32

SPECIFICATION = Specification(
    name="coreml",
    extension=".mlpackage",
    options={
        "minimum_deployment_target": Option(
            "string",
            "iOS15",
            "The oldest system that must be able to run it.",
            _TARGETS,
            refused=dict.fromkeys(
                (
                    "iOS13",
                    "iOS14",
                    "macOS10_15",
                    "macOS10_16",
                    "macOS11",
                    "watchOS6",
                    "watchOS7",
                    "tvOS13",
                    "tvOS14",
                ),
                _OLD,
            ),
        ),
        "compute_units": Option(
            "string",
            "all",
            "The compute units that Core ML may use.",
            ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"),
        ),
        "precision": Option(
            "string",
            "float16",
            "Compute precision; the Neural Engine supports float16 only.",
            ("float16", "float32"),
        ),
        "fixed_sizes": Option(
            "object",
            None,
            'Fixed sizes of axes that the model leaves open, by name: {"batch": 1}; all others '
            "become the traced sizes. Default: they stay open, within the model's limits, or up to "
            f"a batch of {_MAXIMUM_BATCH} and {_MAXIMUM_TIMES_EXAMPLE} times the traced size.",
        ),
    },
    embeds=True,
    runs_on="an Apple system",
)


class TorchToCoreML(Exporter):
    specification = SPECIFICATION
    takes = (PROGRAM, SCRIPT)
    modules = ("torch", "coremltools")

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: with a maximum for every dynamic axis, or with every axis fixed."""
        if options["fixed_sizes"] is not None:
            from ..proof import cases

            return cases.fixed(source, options["fixed_sizes"])
        return replace(
            source, dimensions={name: _bounded(name, size) for name, size in source.dimensions.items()}
        )

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        if source.family == PROGRAM:
            return (BY_PROGRAM, BY_SCRIPT, DECOMPOSED)
        return (FROZEN, BY_SCRIPT) if source.dimensions else (FROZEN, BY_SCRIPT, DECOMPOSED)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.mlpackage`` into ``folder``.

        Raises:
            ConversionFailed: coremltools does not know an operator, or its result has other inputs or outputs
                than the source.
        """
        import coremltools

        with (
            converting(f"coremltools cannot convert this model ({converter})", converter),
            torch_graph.quiet(),
        ):
            coreml_package.register_operators()
            model = coremltools.convert(
                _graph(source, example, converter),
                inputs=coreml_package.inputs(source, example),
                outputs=coreml_package.outputs(example),
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target[options["minimum_deployment_target"]],
                compute_precision=coremltools.precision[options["precision"].upper()],
                compute_units=coremltools.ComputeUnit[options["compute_units"].upper()],
                skip_model_load=True,
            )
            files = coreml_package.write(model, folder, source, example, options["compute_units"])
            coreml_package.check(folder / files[0], source, example)
        details = {
            name: options[name] for name in ("minimum_deployment_target", "compute_units", "precision")
        }
        return Artefact(
            files,
            converter,
            {**details, "dtypes": coreml_package.other_dtypes(source, example)},
            options["precision"],
        )


EXPORTER = TorchToCoreML()


def _graph(source: Source, example: Case, converter: str) -> Any:
    import torch

    if converter == FROZEN:
        return torch.jit.freeze(source.program)
    if converter == BY_SCRIPT:
        return torch_graph.as_compiled_script(source)
    program = source.program if source.dimensions else torch_module.as_program(source, example)
    own = torch.export.default_decompositions() if converter == DECOMPOSED else {}
    aten = torch.ops.aten
    return program.run_decompositions(
        {**own, aten.group_norm.default: _group_norm, aten.where.ScalarOther: _where}
    )


def _where(condition: Any, x: Any, other: float) -> Any:
    """Convert the number to a tensor: coremltools supports a number on the other side only."""
    import torch

    return torch.where(condition, x, torch.full((), other, dtype=torch.result_type(x, other)))


def _group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, _: bool = True
) -> Any:
    """Compute a layer norm of each group: coremltools' own lowering needs a fixed batch.

    ``float[N, C, ...]`` to the same; https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html.
    """
    import torch

    within = x.reshape(x.shape[0], groups, -1)
    normal = torch.nn.functional.layer_norm(within, within.shape[2:], eps=eps).reshape(x.shape)
    each = (1, -1) + (1,) * (x.dim() - 2)
    normal = normal if weight is None else normal * weight.reshape(each)
    return normal if bias is None else normal + bias.reshape(each)


def _bounded(name: str, size: Dimension) -> Dimension:
    if size.maximum is not None:
        return size
    most = (
        _MAXIMUM_BATCH
        if name == "batch"
        else max(_MAXIMUM_SIZE, _MAXIMUM_TIMES_EXAMPLE * (size.example or 0))
    )
    return replace(size, maximum=max(most, size.minimum))
