"""Exported programs of ``torch.export.save``: a graph, weights, and ranges of shapes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..base import PROGRAM, Arrays, Dimension, Source, TensorSpec
from ..errors import InvalidSource, UnsupportedOption, as_limit
from ..request import Trust
from . import operators, program_tables, pt2_gate
from .tensors import dtype_name, flatten_outputs, to_numpy, to_torch

# Index of the "training" flag in the arguments of these operators.
_TRAINING_FLAG = {"aten.dropout.default": 2, "aten.batch_norm.default": 5, "aten.alpha_dropout.default": 2}


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the program as a source.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``pt2_gate.check``.
        InvalidSource: a program that cannot be converted: exported in training mode, or with inputs that are
            not tensors.
    """
    if options.get("inputs") is not None:
        raise UnsupportedOption(
            "Remove the option 'inputs': an exported program records its inputs. The option is for "
            "checkpoints that do not.",
            allowed=None,
            option="inputs",
        )
    pt2_gate.check(path)
    program = _read(path)
    _require_eval(program)
    _require_tensor_outputs(program)
    signature = program.graph_signature
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    tensors = [name for name in signature.user_inputs if isinstance(name, str) and name in placeholders]
    if len(tensors) != len(signature.user_inputs):
        raise InvalidSource(
            "The program takes inputs that are not tensors. Make them constants of the model and export "
            "it again."
        )
    metas = [placeholders[name].meta["val"] for name in tensors]
    if not all(hasattr(meta, "shape") for meta in metas):
        raise InvalidSource("The program takes numbers as inputs. Make them tensors and export it again.")
    examples = _example_arrays(program, tensors)
    symbols = _name_symbols(tensors, metas)
    dimensions = _dimensions(program, tensors, metas, symbols, examples)
    inputs = tuple(
        TensorSpec(name, dtype_name(meta.dtype), tuple(_axis(size, symbols) for size in meta.shape))
        for name, meta in zip(tensors, metas, strict=True)
    )
    tables = program_tables.ranges(program, tensors)
    used = operators.of_program(program)
    module = program.module()
    in_spec = program.call_spec.in_spec

    def reference(arrays: Arrays) -> Arrays:
        import torch
        from torch.utils._pytree import tree_unflatten

        args, kwargs = tree_unflatten([to_torch(arrays[name]) for name in tensors], in_spec)
        with torch.no_grad():
            outputs = flatten_outputs(module(*args, **kwargs), tensors)
        return {name: to_numpy(value) for name, value in outputs.items()}

    def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        known = {theirs: sizes[ours] for theirs, ours in symbols.items()}
        return {
            name: tuple(_evaluate(size, known) for size in meta.shape)
            for name, meta in zip(tensors, metas, strict=True)
        }

    return Source(
        kind="pt2",
        family=PROGRAM,
        program=program,
        inputs=inputs,
        dimensions=dimensions,
        symbols=symbols,
        reference=reference,
        shapes=shapes,
        integers={
            name: (int(array.min()), int(array.max()))
            for name, array in examples.items()
            if np.issubdtype(array.dtype, np.integer) and array.size and name not in tables
        }
        | tables,
        bounded=frozenset(tables),
        operators=used.names,
        steps=used.steps,
    )


def _read(path: Path) -> Any:
    """Load the program without torch's fallback to an older, pickled layout, which the gate did not check."""
    from torch.export.pt2_archive._package import load_pt2

    try:
        return load_pt2(str(path)).exported_programs["model"]
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"torch cannot read the .pt2 file: {str(exc).strip()[:300]}. If a newer torch wrote it, export "
            "the model with torch 2.13 or older.",
        ) from exc


def _require_eval(program: Any) -> None:
    for node in program.graph.nodes:
        position = _TRAINING_FLAG.get(str(node.target))
        if position is not None and len(node.args) > position and node.args[position] is True:
            raise InvalidSource(
                "The program was exported in training mode, so its outputs are random. Call "
                "model.eval() before torch.export.export and upload the new file."
            )


def _require_tensor_outputs(program: Any) -> None:
    returned = [item for item in program.graph_signature.output_specs if item.kind.name == "USER_OUTPUT"]
    if any(type(item.arg).__name__ != "TensorArgument" for item in returned):
        raise InvalidSource(
            "The program returns something other than tensors. Return tensors and export it again."
        )


def _example_arrays(program: Any, names: list[str]) -> Arrays:
    """Return the inputs that the author traced with; an archive may have none."""
    from torch.utils._pytree import tree_leaves

    leaves = [leaf for leaf in tree_leaves(program.example_inputs) if leaf is not None]
    if len(leaves) != len(names):
        return {}
    return {name: to_numpy(leaf) for name, leaf in zip(names, leaves, strict=True) if hasattr(leaf, "dtype")}


def _name_symbols(names: list[str], metas: list[Any]) -> dict[str, str]:
    """Name the dynamic axes, whose names torch does not store (``s31``): the first axis becomes ``batch``."""
    symbols: dict[str, str] = {}
    for name, meta in zip(names, metas, strict=True):
        for axis, size in enumerate(meta.shape):
            for symbol in sorted(str(free) for free in _free_symbols(size)):
                if symbol not in symbols:
                    first = axis == 0 and "batch" not in symbols.values()
                    symbols[symbol] = "batch" if first else f"{name}_dim_{axis}"
    if len(set(symbols.values())) != len(symbols):  # two symbols in one axis
        return {symbol: symbol for symbol in symbols}
    return symbols


def _dimensions(
    program: Any, names: list[str], metas: list[Any], symbols: Mapping[str, str], examples: Arrays
) -> dict[str, Dimension]:
    traced = {
        str(size): examples[name].shape[axis]
        for name, meta in zip(names, metas, strict=True)
        for axis, size in enumerate(meta.shape)
        if name in examples
    }
    ranges = {str(symbol): value for symbol, value in program.range_constraints.items()}
    dimensions = {}
    for theirs, ours in symbols.items():
        lower, upper = _bounds(ranges.get(theirs))
        dimensions[ours] = Dimension(lower, upper, traced.get(theirs))
    return dimensions


def _bounds(value: Any) -> tuple[int, int | None]:
    if value is None:
        return 1, None
    upper = int(value.upper) if value.upper.is_Integer else None
    return max(1, int(value.lower) if value.lower.is_Integer else 1), upper


def _axis(size: Any, symbols: Mapping[str, str]) -> int | str:
    if isinstance(size, int):
        return size
    return re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), str(size))


def _evaluate(size: Any, known: Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs({free: known[str(free)] for free in expression.free_symbols}))


def _free_symbols(size: Any) -> set[Any]:
    return set() if isinstance(size, int) else set(size.node.expr.free_symbols)
