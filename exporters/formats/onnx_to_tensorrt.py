"""ONNX to a TensorRT engine, or to a package that builds the engine on the target machine.

An engine works on one kind of GPU with one version of TensorRT only. The package therefore always has the
ONNX model, the optimization profile and the script that builds the engine. With ``build_on_target`` it has
nothing else, and neither TensorRT nor a GPU is needed here. Networks are strongly typed (the only kind in
TensorRT 11): the ONNX model determines the precision, which onnxruntime can verify here.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import ESTIMATOR, ONNX, Artefact, Case, Dimension, Exporter, Source
from ..errors import ConversionFailed, MissingDependency, UnsupportedOption, as_limit
from ..options import Option, Specification
from ..package import write_json
from . import onnx_file

_COMPUTES_IN = {"fp32": None, "fp16": "float16", "int8": "int8"}
_MAX_BATCH_SIZE = 32


def _check(options: Mapping[str, Any]) -> None:
    for name, bounds in (options["profile"] or {}).items():
        sizes = bounds if isinstance(bounds, list) else []
        whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
        if len(sizes) != 3 or not whole or sizes != sorted(sizes):
            raise UnsupportedOption(
                f"profile[{name!r}] is not [smallest, usual, largest] like [1, 8, 32].",
                allowed={name: [1, 8, 32]},
                option="profile",
            )
    most = (options["profile"] or {}).get("batch", [None])[-1]
    if None not in (most, options["max_batch_size"]) and most != options["max_batch_size"]:
        raise UnsupportedOption(
            "max_batch_size and the batch of profile differ. Remove one of them.",
            allowed=None,
            option="max_batch_size",
        )


SPECIFICATION = Specification(
    name="tensorrt",
    extension=".engine",
    options={
        "precision": Option(
            "string",
            "fp32",
            "Precision: fp32, fp16 (inputs and outputs keep their types), or int8 for a model that "
            "is quantized already: its graph has QuantizeLinear and DequantizeLinear with "
            "calibrated ranges.",
            ("fp32", "fp16", "int8"),
        ),
        "max_batch_size": Option(
            "integer",
            None,
            f"The largest batch of a model with a dynamic batch. Default: {_MAX_BATCH_SIZE}, or "
            "what the model allows.",
            (1, 65_536),
        ),
        "workspace_size_gb": Option("integer", 4, "The GPU memory that the builder may use.", (1, 1024)),
        "profile": Option(
            "object",
            None,
            'Smallest, usual and largest size of a dynamic axis: {"batch": [1, 8, 32]}. Default: '
            "the smallest and largest sizes that the model allows; without a largest size, twice "
            "the traced one.",
        ),
        "build_on_target": Option(
            "boolean",
            False,
            "Build the engine on the machine that will run it: the package contains the ONNX, the "
            "profile and build_engine.py. Needs no TensorRT and no GPU here.",
        ),
    },
    check=_check,
    embeds=True,
    runs_on="a machine with an NVIDIA GPU",
)


class OnnxToTensorRT(Exporter):
    specification = SPECIFICATION
    takes = (ONNX,)
    not_of = (ESTIMATOR,)  # TensorRT has no operator of ai.onnx.ml
    modules = ("onnx", "onnxruntime", "tensorrt", "cuda")
    advice = (
        "install them on a machine with an NVIDIA GPU (pip install tensorrt cuda-python), or set "
        "build_on_target for a package that builds the engine on its target machine."
    )

    def requires(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("onnx", "onnxruntime") if options["build_on_target"] else self.modules

    def presented(self, source: Source, options: Mapping[str, Any]) -> Source:
        """See ``Exporter.presented``: an engine accepts its profile only; an axis of one size is fixed."""
        given: Mapping[str, list[int]] = options["profile"] or {}
        unknown = sorted(set(given) - set(source.dimensions))
        if unknown:
            raise UnsupportedOption(
                f"The model has no dynamic axis {unknown[0]!r}; its dynamic axes: "
                f"{', '.join(source.dimensions) or 'none'}.",
                allowed=list(source.dimensions),
                option="profile",
            )
        ranges: dict[str, Dimension] = {}
        for name, dimension in source.dimensions.items():
            low, usual, high = given.get(name) or _bounds(name, dimension, options["max_batch_size"])
            if not (dimension.allows(low) and dimension.allows(high) and low <= high):
                most = "any size" if dimension.maximum is None else dimension.maximum
                raise UnsupportedOption(
                    f"The axis {name!r} goes from {dimension.minimum} to {most} in the model, not "
                    f"from {low} to {high}.",
                    allowed=[dimension.minimum, dimension.maximum],
                    option="profile" if name in given else "max_batch_size",
                )
            ranges[name] = Dimension(low, high, usual)
        smallest = {name: one.minimum for name, one in ranges.items()}

        def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
            return source.shapes({**smallest, **sizes})

        low_shapes, high_shapes = shapes({}), shapes({name: one.maximum or 1 for name, one in ranges.items()})
        inputs = []
        for spec in source.inputs:
            bounds = zip(spec.shape, low_shapes[spec.name], high_shapes[spec.name], strict=True)
            inputs.append(
                replace(spec, shape=tuple(low if low == high else size for size, low, high in bounds))
            )
        dynamic = {name: one for name, one in ranges.items() if one.minimum != one.maximum}
        return replace(source, inputs=tuple(inputs), dimensions=dynamic, shapes=shapes)

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return ("tensorrt",)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.onnx``, ``profile.json`` and ``build_engine.py`` into ``folder``.

        Unless the engine is built on the target, ``model.engine`` and ``engine.json`` are written too.

        Raises:
            UnsupportedOption: int8 for a model that is not quantized.
            ConversionFailed: TensorRT does not support this model.
            MissingDependency: TensorRT finds no GPU here.
        """
        from ..proof.verify import TOLERANCES
        from ..wrappers.tensorrt import build_engine

        precision = options["precision"]
        files = _write_onnx(source, folder, precision)
        rtol, atol = TOLERANCES[_COMPUTES_IN[precision] or "float32"]
        profile = {
            "onnx_sha256": build_engine.digest(folder / onnx_file.NAME),
            "precision": precision,
            "workspace_size_gb": options["workspace_size_gb"],
            "inputs": _profile(source),
            "tolerance": {"rtol": rtol, "atol": atol},
        }
        write_json(folder / build_engine.PROFILE, profile)
        shutil.copyfile(build_engine.__file__, folder / "build_engine.py")
        files = (*files, build_engine.PROFILE, "build_engine.py")
        details: dict[str, Any] = {"precision": precision, "profile": profile["inputs"]}
        if options["build_on_target"]:
            details["build_on_target"] = True
            return Artefact(files, converter, details, _COMPUTES_IN[precision], stand_in=ONNX)
        try:
            details |= build_engine.build(folder / onnx_file.NAME, profile, folder / build_engine.ENGINE)
        except build_engine.NotHere as exc:
            raise MissingDependency(f"{exc} Or set build_on_target.", format=SPECIFICATION.name) from exc
        except build_engine.BuildFailed as exc:
            raise ConversionFailed(str(exc)) from exc
        files = (build_engine.ENGINE, build_engine.RECORD, *files)
        return Artefact(files, converter, details, _COMPUTES_IN[precision])


EXPORTER = OnnxToTensorRT()


def _bounds(name: str, dimension: Dimension, max_batch_size: int | None) -> tuple[int, int, int]:
    low = dimension.minimum
    if name == "batch":
        most = dimension.maximum or _MAX_BATCH_SIZE
        high = max_batch_size or max(low, min(most, _MAX_BATCH_SIZE))
    else:
        high = dimension.maximum or max(low, 2 * (dimension.example or 128))
    usual = 8 if name == "batch" else dimension.example or low
    return low, min(max(usual, low), high), high


def _profile(source: Source) -> dict[str, dict[str, list[int]]]:
    """Return the shapes of every input with a dynamic axis: smallest, usual and largest."""
    low = source.shapes({name: one.minimum for name, one in source.dimensions.items()})
    usual = source.shapes({name: one.example or one.minimum for name, one in source.dimensions.items()})
    high = source.shapes({name: one.maximum or one.minimum for name, one in source.dimensions.items()})
    return {
        spec.name: {
            "min": list(low[spec.name]),
            "opt": list(usual[spec.name]),
            "max": list(high[spec.name]),
        }
        for spec in source.inputs
        if low[spec.name] != high[spec.name]
    }


def _write_onnx(source: Source, folder: Path, precision: str) -> tuple[str, ...]:
    import onnx

    try:
        model = onnx.load(str(source.program))
        _require_default_operators(model)
        if precision == "int8":
            _require_quantized(model)
        if precision == "fp16":
            model = onnx_file.half(model)
        return onnx_file.write(model, folder, source)
    except (UnsupportedOption, ConversionFailed):
        raise
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"The ONNX cannot be converted to {precision}: {str(exc).strip()[:300]}"
        ) from exc


def _require_default_operators(model: Any) -> None:
    own = {"", "ai.onnx", *(function.domain for function in model.functions)}
    foreign = {node.domain for node in model.graph.node} - own
    if foreign:
        raise ConversionFailed(f"TensorRT has no operators of {', '.join(sorted(foreign))}.")


def _require_quantized(model: Any) -> None:
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    if not any(node.op_type == "QuantizeLinear" for nodes in graphs for node in nodes):
        raise UnsupportedOption(
            "int8 needs a model that is quantized already: calibrate it with your own data, save "
            "it as ONNX with QuantizeLinear and DequantizeLinear, and upload that; or export with "
            "fp32.",
            allowed=["fp32", "fp16"],
            option="precision",
        )
