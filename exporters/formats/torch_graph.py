"""Functions that the formats converted from torch share."""

import contextlib
import copy
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..base import PROGRAM, Case, Source, TensorSpec
from ..errors import as_limit

# A part of the written archives: names, dtypes and shapes, which torch does not store.
INTERFACE = "interface.json"


def example_tensors(source: Source, example: Case) -> tuple[Any, ...]:
    """Return the example's inputs as torch tensors, in the network's order."""
    from ..sources.tensors import to_torch

    return tuple(to_torch(example.inputs[spec.name]) for spec in source.inputs)


def as_script(source: Source, example: Case) -> Any:
    """Return the network as TorchScript; an exported program is traced on the example.

    A traced program returns a flat tuple. ``forward`` is called without the module's hooks: their check of
    shapes cannot be traced.
    """
    if source.family != PROGRAM:
        return source.program
    import torch
    from torch.utils._pytree import tree_leaves, tree_unflatten

    program = source.program
    in_spec = program.call_spec.in_spec

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = program.module(check_guards=False)

        def forward(self, *flat: Any) -> tuple[Any, ...]:
            args, kwargs = tree_unflatten(list(flat), in_spec)
            return tuple(tree_leaves(self.module.forward(*args, **kwargs)))

    with torch.no_grad():
        return torch.jit.trace(Flat(), example_tensors(source, example), check_trace=False)


def as_compiled_script(source: Source) -> Any:
    """Return the network as TorchScript compiled from the exported graph, which keeps symbolic sizes.

    A trace stores the sizes that it sees, and a dynamic batch is lost with the first ``view``. The result
    returns one tensor, or a flat tuple of tensors.

    Raises:
        RuntimeError and others of torch's: an operator that TorchScript does not know.
    """
    if source.family != PROGRAM:
        return source.program
    import torch
    from torch.fx.graph import CodeGen
    from torch.utils._pytree import tree_leaves

    module = source.program.module(check_guards=False)
    graph = module.graph
    for node in graph.nodes:
        _select_instead_of_unbind(node)
        if node.target is torch.ops.aten.sym_size.int:
            node.target = torch.ops.aten.size
        elif isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket
        elif node.op == "output":
            flat = [leaf for leaf in tree_leaves(node.args[0]) if leaf is not None]
            node.args = (flat[0] if len(flat) == 1 else tuple(flat),)
    graph.set_codegen(CodeGen())
    with torch.no_grad():
        return torch.jit.script(torch.fx.GraphModule(module, graph)).eval()


def _select_instead_of_unbind(node: Any) -> None:
    """Replace ``unbind`` by selects: torch's ONNX exporter gives each part the rank of the whole."""
    import torch

    if node.op != "call_function" or getattr(node.target, "__name__", "") != "getitem":
        return
    whole, index = node.args
    if getattr(whole, "target", None) in (torch.ops.aten.unbind.int, torch.ops.aten.unbind):
        axis = whole.args[1] if len(whole.args) > 1 else whole.kwargs.get("dim", 0)
        node.target = torch.ops.aten.select.int
        node.args = (whole.args[0], axis, index)


def has_bfloat16(source: Source) -> bool:
    """Return whether an exported program has weights in bfloat16."""
    import torch

    if source.family != PROGRAM:
        return False
    held = (*source.program.state_dict.values(), *source.program.constants.values())
    return any(getattr(tensor, "dtype", None) == torch.bfloat16 for tensor in held)


def in_float32(source: Source, example: Case) -> Source:
    """Return a program with bfloat16 weights in float32, for runtimes without bfloat16 operators.

    Any other source is returned unchanged. The weights keep their values, and no step is rounded any more.
    """
    if not has_bfloat16(source):
        return source
    import torch
    from torch.export import Dim, ShapesCollection
    from torch.fx.node import map_aggregate
    from torch.utils._pytree import tree_unflatten

    def wide(value: Any) -> Any:
        return torch.float32 if value is torch.bfloat16 else value

    # A copy: its weights are shared with the source, whose outputs must not change.
    module = copy.deepcopy(source.program.module(check_guards=False))
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
        else:
            node.args, node.kwargs = map_aggregate(node.args, wide), map_aggregate(node.kwargs, wide)
    module.recompile()
    flat = example_tensors(source, example)
    dynamic = ShapesCollection()
    for spec, tensor in zip(source.inputs, flat, strict=True):
        axes = {axis: Dim.AUTO for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        if axes:
            dynamic[tensor] = axes
    args, kwargs = tree_unflatten(list(flat), source.program.call_spec.in_spec)
    for name, constant in source.program.constants.items():
        if getattr(constant, "dtype", None) == torch.bfloat16:
            setattr(module, name, constant.float())
    with torch.no_grad():
        program = torch.export.export(module.float(), args, kwargs, dynamic_shapes=dynamic, strict=False)
    return replace(source, program=program)


def interface(source: Source, example: Case) -> dict[str, str]:
    """Return the archive's record of the names of inputs and outputs, for runners."""
    document = {
        "inputs": [spec.to_json() for spec in source.inputs],
        "outputs": [spec.to_json() for spec in output_specs(source, example)],
    }
    return {INTERFACE: json.dumps(document, sort_keys=True)}


def output_specs(source: Source, example: Case) -> tuple[TensorSpec, ...]:
    """Return the outputs, with a name for every axis that depends on an input's: ``batch``, ``2*length``."""
    specs = source.output_specs(example)
    if source.family != PROGRAM:
        return tuple(_open_axes(spec, source, example) for spec in specs)
    from torch.utils._pytree import tree_leaves

    output = next(node for node in source.program.graph.nodes if node.op == "output")
    leaves = [leaf for leaf in tree_leaves(output.args[0]) if hasattr(leaf, "meta")]
    metas = [leaf.meta["val"] for leaf in leaves][-len(specs) :]  # mutated buffers come first
    return tuple(
        TensorSpec(spec.name, spec.dtype, tuple(_axis(size, source) for size in meta.shape))
        for spec, meta in zip(specs, metas, strict=True)
    )


def _open_axes(spec: TensorSpec, source: Source, example: Case) -> TensorSpec:
    """Find, by running it, which output axes of TorchScript grow with one of the inputs' axes."""
    import numpy as np

    sizes = {
        size: number
        for given in source.inputs
        for size, number in zip(given.shape, example.inputs[given.name].shape, strict=True)
        if isinstance(size, str)
    }
    shape = list(spec.shape)
    for name in source.dimensions:
        if name == "batch" or name not in sizes:
            continue
        shapes = source.shapes({**sizes, name: sizes[name] + 8})
        inputs = {
            given.name: np.resize(example.inputs[given.name], shapes[given.name]) for given in source.inputs
        }
        try:
            grown = source.reference(inputs)[spec.name].shape
        except Exception as exc:  # the axis cannot change alone
            if limit := as_limit(exc):
                raise limit from exc
            continue
        for axis, (now, then) in enumerate(zip(example.expected[spec.name].shape, grown, strict=True)):
            if now != then:
                follows = (now, then) == (sizes[name], sizes[name] + 8)
                shape[axis] = name if follows else f"{spec.name}_dim_{axis}"
    return TensorSpec(spec.name, spec.dtype, tuple(shape))


def _axis(size: Any, source: Source) -> int | str:
    if isinstance(size, int):
        return size
    return re.sub(r"\w+", lambda word: source.symbols.get(word[0], word[0]), str(size))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' long warnings about their own internals; errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
