"""The ``.mlpackage`` folder: its dtypes and inputs for a source, writing it, and checking it.

    model.mlpackage/
    ├── Manifest.json                              the list of the items
    └── Data/com.apple.CoreML/model.mlmodel        the program, a protobuf
                              weights/weight.bin

Core ML takes and returns float16, float32 and int32 only. The dtypes of the source are written into the
model's user-defined metadata, where the runner finds them.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import Case, Source, TensorSpec
from ..errors import ConversionFailed

FOLDER = "model.mlpackage"
MANIFEST = "Manifest.json"
INTERFACE = "interface"
COMPUTE_UNITS = "compute_units"

_MODEL = "com.apple.CoreML/model.mlmodel"
_WEIGHTS = "com.apple.CoreML/weights"
_AUTHOR = "com.apple.CoreML"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562's namespace for URLs
_DATE = "com.github.apple.coremltools.conversion_date"


def dtype_of(dtype: str) -> str:
    """Return Core ML's dtype for a dtype. 64 bits become 32, so larger numbers do not fit."""
    return "float32" if dtype.startswith("float") else "int32"


def other_dtypes(source: Source, example: Case) -> dict[str, str]:
    """Return input or output → its dtype in Core ML, where that differs from the source's."""
    dtypes = {spec.name: spec.dtype for spec in source.inputs}
    dtypes |= {name: str(array.dtype) for name, array in example.expected.items()}
    return {name: dtype_of(dtype) for name, dtype in dtypes.items() if dtype_of(dtype) != dtype}


def register_operators() -> None:
    """Replace coremltools' casts of one-element arrays, ``int(x)``, which numpy 2.4 refuses."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    def cast(context: Any, node: Any, python: type, name: str) -> None:
        value = context[node.inputs[0]]
        if value.can_be_folded_to_const() and getattr(value.val, "size", 1) == 1:
            plain = python(value.val.item() if hasattr(value.val, "item") else value.val)
            context.add(Builder.const(val=plain, name=node.name), node.name)
        else:
            ops._cast(context, node, python, name)

    @register_torch_op(torch_alias=["int"], override=True)  # type: ignore[untyped-decorator]
    def _int(context: Any, node: Any) -> None:
        cast(context, node, int, "int32")

    @register_torch_op(torch_alias=["bool"], override=True)  # type: ignore[untyped-decorator]
    def _bool(context: Any, node: Any) -> None:
        cast(context, node, bool, "bool")


def inputs(source: Source, example: Case) -> list[Any]:
    """Return coremltools' types of the inputs; an axis that two inputs share is one range."""
    import coremltools
    import numpy as np

    smallest = source.shapes({name: size.minimum for name, size in source.dimensions.items()})
    largest = source.shapes({name: size.maximum or size.minimum for name, size in source.dimensions.items()})
    ranges: dict[str, Any] = {}
    types = []
    for spec in source.inputs:
        shape: list[Any] = []
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str) and size not in ranges:
                ranges[size] = coremltools.RangeDim(
                    smallest[spec.name][axis],
                    largest[spec.name][axis],
                    default=example.inputs[spec.name].shape[axis],
                )
            shape.append(ranges[size] if isinstance(size, str) else size)
        types.append(
            coremltools.TensorType(spec.name, shape=tuple(shape), dtype=np.dtype(dtype_of(spec.dtype)).type)
        )
    return types


def outputs(example: Case) -> list[Any]:
    import coremltools
    import numpy as np

    return [
        coremltools.TensorType(name, dtype=np.dtype(dtype_of(str(array.dtype))).type)
        for name, array in example.expected.items()
    ]


def write(model: Any, folder: Path, source: Source, example: Case, compute_units: str) -> tuple[str, ...]:
    """Write the package without dates and random identifiers; return the file names, the manifest first."""
    spec = model.get_spec()
    interface = {
        "inputs": [one.to_json() for one in source.inputs],
        "outputs": [one.to_json() for one in source.output_specs(example)],
    }
    known = spec.description.metadata.userDefined
    known.pop(_DATE, None)
    known[INTERFACE] = json.dumps(interface, sort_keys=True)
    known[COMPUTE_UNITS] = compute_units
    data = folder / FOLDER / "Data"
    (data / _WEIGHTS).mkdir(parents=True)
    (data / _MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    weights = sorted(Path(model.weights_dir or data / _WEIGHTS).glob("*.bin"))
    for path in weights:
        (data / _WEIGHTS / path.name).write_bytes(path.read_bytes())
    entries = {
        _identifier(path): {
            "author": _AUTHOR,
            "description": description,
            "name": Path(path).name,
            "path": path,
        }
        for path, description in ((_MODEL, "CoreML Model Specification"), (_WEIGHTS, "CoreML Model Weights"))
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": _identifier(_MODEL),
    }
    (folder / FOLDER / MANIFEST).write_text(
        json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8"
    )
    inner = (MANIFEST, f"Data/{_MODEL}", *(f"Data/{_WEIGHTS}/{path.name}" for path in weights))
    return tuple(f"{FOLDER}/{name}" for name in inner)


def _identifier(path: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, path))


def check(manifest: Path, source: Source, example: Case) -> None:
    """Compare the interface that the written model declares with the source.

    Raises:
        ConversionFailed: another name, dtype or shape.
    """
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((manifest.parent / "Data" / _MODEL).read_bytes())
    ends = _declared_outputs(spec)
    _compare("inputs", source.inputs, spec.description.input, {})
    _compare("outputs", source.output_specs(example), spec.description.output, ends)


def _compare(
    what: str, wanted: tuple[TensorSpec, ...], found: Any, shapes: Mapping[str, tuple[int | None, ...]]
) -> None:
    names = [feature.name for feature in found]
    if names != [spec.name for spec in wanted]:
        raise ConversionFailed(
            f"coremltools produced a model with other {what}: {', '.join(names)}. Export another format."
        )
    for spec, feature in zip(wanted, found, strict=True):
        array = feature.type.multiArrayType
        dtype = array.ArrayDataType.Name(array.dataType).lower()
        shape = shapes[spec.name] if spec.name in shapes else _open_shape(array)
        if dtype != dtype_of(spec.dtype) or not _fits(spec.shape, shape):
            raise ConversionFailed(
                f"coremltools produced {spec.name!r} of the {what} as {dtype} of shape {list(shape)} "
                f"instead of {spec.dtype} {list(spec.shape)}. Export another format."
            )


def _fits(wanted: tuple[int | str, ...], shape: tuple[int | None, ...]) -> bool:
    """Compare shapes. An axis open in Core ML matches any size; one open in the source must be open."""
    return len(wanted) == len(shape) and all(
        have is None or want == have for want, have in zip(wanted, shape, strict=True)
    )


def _open_shape(array: Any) -> tuple[int | None, ...]:
    ranges = array.shapeRange.sizeRanges
    if not ranges:
        return tuple(array.shape)
    return tuple(one.lowerBound if one.lowerBound == one.upperBound else None for one in ranges)


def _declared_outputs(spec: Any) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the program's results (None: an open axis), which the interface leaves out."""
    (function,) = spec.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    types = {output.name: output.type for operation in block.operations for output in operation.outputs}
    types |= {one.name: one.type for one in function.inputs}
    return {
        name: tuple(
            size.constant.size if size.WhichOneof("dimension") == "constant" else None
            for size in types[name].tensorType.dimensions
        )
        for name in block.outputs
    }
