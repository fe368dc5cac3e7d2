"""ONNX files from any exporter: a file, or a folder with a file and its external data."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base import ONNX, Dimension, Source, TensorSpec
from ..errors import InvalidSource, UnsupportedOption
from ..request import Trust
from . import onnx_gate, onnx_outputs, onnx_shapes, operators
from .onnx_reference import Reference
from .tensors import DTYPES

# Exporters' names of the batch axis; tf2onnx and others invent a name if they know none.
_BATCH = re.compile(r"(?i)n|b|bs|.*batch.*|unk__\d+|none|dim_?\d*|dynamic_axes_\w+|axis_?0|\?|-1|")
_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
# Operators that an integer passes through unchanged on its way to a lookup.
_PASSING = {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Concat", "Expand"}
_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
_DTYPES = (*DTYPES, "uint16", "uint32", "uint64")  # torch has no operators for the last three
_NAMES = {"object": "text"}


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the file as a source.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``onnx_gate.read``.
        InvalidSource: neither onnxruntime nor ONNX's reference implementation runs the model.
    """
    if options.get("inputs") is not None or options.get("architecture") is not None:
        name = "inputs" if options.get("inputs") is not None else "architecture"
        raise UnsupportedOption(
            f"The option {name} is only for checkpoints that do not record it; an ONNX file does. Remove it.",
            allowed=None,
            option=name,
        )
    path = _file(path)
    model = onnx_gate.read(path)
    given = {tensor.name for tensor in model.graph.initializer}
    given |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    values = [value for value in model.graph.input if value.name not in given]
    if not values:
        raise InvalidSource(
            "The ONNX model takes no input, so it cannot be verified. Give it at least one input."
        )
    symbols = _name_axes(values)
    inputs = tuple(_spec(value, symbols) for value in values)
    outputs = onnx_outputs.as_tensors(model)
    used = operators.of_onnx(model, onnx_gate.nodes(model))
    reference = Reference(path, model, outputs.decoders)

    def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        return {spec.name: tuple(_evaluate(size, sizes) for size in spec.shape) for spec in inputs}

    return Source(
        kind="onnx",
        family=ONNX,
        program=reference.program,
        inputs=inputs,
        dimensions={
            word: Dimension()
            for spec in inputs
            for size in spec.shape
            if isinstance(size, str)
            for word in re.findall(r"[A-Za-z_]\w*", size)
        },
        symbols={theirs: ours for theirs, ours in symbols.items() if isinstance(theirs, str)},
        reference=reference,
        shapes=shapes,
        integers=_integers(model, inputs),
        values=onnx_shapes.values(model, inputs),
        operators=used.names,
        steps=used.steps,
        classes=outputs.classes or _classes(model),
        run_by=reference.run_by,
    )


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        raise InvalidSource(
            f"The folder has {len(found)} .onnx files; upload one model with the data files that it "
            "refers to."
        )
    return found[0]


Axis = tuple[str, int]  # an input's name and the index of an axis without a name


def _name_axes(values: list[Any]) -> dict[str | Axis, str]:
    """The file's name of a dynamic axis, or its position if it has none → the name of the axis here."""
    names: dict[str | Axis, str] = {}
    batch: str | Axis | None = None
    for value in values:
        for axis, dim in enumerate(_dims(value)):
            if _is_fixed(dim) or (dim.dim_param and not _BATCH.fullmatch(dim.dim_param) and _words(dim)):
                continue
            key = dim.dim_param or (value.name, axis)
            unnamed = not dim.dim_param
            if axis == 0 and (batch is None or batch == key or (unnamed and isinstance(batch, tuple))):
                batch = batch or key
                names[key] = "batch"
            elif key not in names:
                plain = re.fullmatch(r"[A-Za-z_]\w*", dim.dim_param) and dim.dim_param != "batch"
                names[key] = dim.dim_param if plain else re.sub(r"\W", "_", f"{value.name}_dim_{axis}")
    return names


def _words(dim: Any) -> bool:
    """Return whether an axis has a usable name: one name, or an expression of names."""
    try:
        _parse(dim.dim_param)
    except ValueError:
        return False
    return True


def _dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def _is_fixed(dim: Any) -> bool:
    """Return whether the size is fixed; also for size 0, because onnxruntime then accepts no other."""
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def _spec(value: Any, symbols: Mapping[str | Axis, str]) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InvalidSource(f"The input {value.name!r} of the ONNX model is not a tensor of a known rank.")
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "none"
    if dtype not in _DTYPES:
        raise InvalidSource(
            f"The input {value.name!r} of the ONNX model is {_NAMES.get(dtype, dtype)}; supported "
            f"are {', '.join(_DTYPES)}."
        )
    shape = []
    for axis, dim in enumerate(tensor.shape.dim):
        if _is_fixed(dim):
            shape.append(dim.dim_value)
        elif not dim.dim_param or dim.dim_param in symbols:
            shape.append(symbols[dim.dim_param or (value.name, axis)])
        else:
            shape.append(re.sub(r"[A-Za-z_]\w*", lambda word: symbols.get(word[0], word[0]), dim.dim_param))
    return TensorSpec(value.name, dtype, tuple(shape))


def _evaluate(size: int | str, sizes: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else _calculate(_parse(size), sizes)


def _parse(text: str) -> ast.expr:
    """Parse a sum, product or quotient of names and whole numbers. Raises ValueError for anything else."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(text) from None
    for node in ast.walk(tree):
        known = isinstance(node, (ast.Name, ast.BinOp, ast.Load, *_OPERATIONS))
        if not known and not (isinstance(node, ast.Constant) and type(node.value) is int):
            raise ValueError(text)
    return tree


def _calculate(node: ast.expr, sizes: Mapping[str, int]) -> int:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_calculate(node.left, sizes), _calculate(node.right, sizes))
    return sizes[node.id] if isinstance(node, ast.Name) else int(ast.literal_eval(node))


def _integers(model: Any, inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[int, int]]:
    """Return the range of each integer input.

    It is that of the rows of the table that it indexes, of a byte, or 0 and 1.
    """
    consumers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    tables = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tables[node.output[0]] = list(node.attribute[0].t.dims)
        elif node.op_type in ("Cast", "Identity", "DequantizeLinear") and node.input[0] in tables:
            tables[node.output[0]] = tables[node.input[0]]
    found = {}
    for spec in inputs:
        if "int" in spec.dtype:
            rows = _smallest_table(spec.name, consumers, tables)
            range_ = (0, rows - 1) if rows else _RANGES.get(spec.dtype, (0, 1))
            found[spec.name] = (1, range_[1]) if _divides(spec.name, consumers) else range_
    return found


def _divides(name: str, consumers: Mapping[str, list[Any]]) -> bool:
    """Return whether a number is divided by the input, which must then not be zero."""
    return any(
        node.op_type in onnx_shapes.DIVISIONS and node.input[1] == name for node in consumers.get(name, [])
    )


def _smallest_table(
    name: str, consumers: Mapping[str, list[Any]], tables: Mapping[str, list[int]]
) -> int | None:
    """Return the number of rows of the smallest table that an input selects from."""
    seen, waiting, rows = {name}, [name], []
    while waiting:
        value = waiting.pop()
        for node in consumers.get(value, []):
            if node.op_type == "Gather" and value == node.input[1] and node.input[0] in tables:
                axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
                rows.append(tables[node.input[0]][axis])
            elif node.op_type in _PASSING and value == node.input[0]:
                new = [output for output in node.output if output not in seen]
                seen.update(new)
                waiting += new
    return min((count for count in rows if count > 0), default=None)


def _classes(model: Any) -> tuple[str, ...] | None:
    """Return the class names that Ultralytics and others write into the file: ``{0: 'person', 1: 'car'}``."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "names"), "")
    try:
        names = ast.literal_eval(text) if len(text) < 1_000_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))) or not names:
        return None
    return tuple(str(names[index]) for index in range(len(names)))
