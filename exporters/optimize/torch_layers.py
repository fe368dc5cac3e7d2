"""An exported program as a network of ``torch.nn`` layers, for pruning and training, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..base import PROGRAM, Source
from ..errors import UnsupportedOption
from ..proof import sizes
from ..proof.probing import Prober
from ..sources import eager
from ..sources.tensors import to_torch

_PROBABILITIES = ("aten.sigmoid.", "aten.softmax.", "aten._softmax.", "aten.hardsigmoid.")
_KEEPS_VALUES = tuple(
    f"aten.{name}."
    for name in (
        *("view", "reshape", "squeeze", "unsqueeze", "flatten", "select", "slice", "clone", "contiguous"),
        *("permute", "transpose", "expand", "to", "_to_copy", "alias", "clamp"),
    )
)
_ARGUMENTS = 9  # of the operators below, at most


def network(source: Source) -> Any:
    """Return a copy of the program as a module with the inputs in order, whose weights belong to layers.

    Convolutions, linear layers and normalisations become ``torch.nn`` modules; everything else stays a
    function of the graph. Operators that share all their weights share a layer.

    Raises:
        UnsupportedOption: the source is no exported program.
    """
    import torch
    from torch.utils._pytree import tree_unflatten

    if source.family != PROGRAM:
        raise UnsupportedOption(
            "Only a network that torch.export records can be pruned or trained. Save it with "
            "torch.export.save and upload the .pt2 file.",
            allowed=[],
            option="method",
        )
    in_spec = source.program.call_spec.in_spec

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, graph: Any) -> None:
            super().__init__()
            self.graph = graph

        def forward(self, *flat: Any) -> Any:
            args, kwargs = tree_unflatten(list(flat), in_spec)
            return self.graph(*args, **kwargs)

    return Network(_with_layers(copy.deepcopy(source.program.module(check_guards=False)))).eval()


def ends_in_probabilities(module: Any) -> bool:
    """Return whether the first output of a ``network`` comes from a sigmoid or softmax."""
    output = next(node for node in module.graph.graph.nodes if node.op == "output")
    node = output.all_input_nodes[0]
    while node.op == "call_function" and str(node.target).startswith(_KEEPS_VALUES):
        node = node.all_input_nodes[0]
    return str(node.target).startswith(_PROBABILITIES)


def as_source(module: Any, source: Source, run_by: str) -> Source:
    """Return ``source`` with a changed ``network`` as its program and reference.

    Raises:
        InvalidSource: torch cannot record the changed network.
    """
    changed = eager.load(
        source.kind, eager.Network(module, source.inputs, source.dimensions, source.integers)
    )
    return replace(
        source,
        program=changed.program,
        family=changed.family,
        symbols=changed.symbols,
        reference=changed.reference,
        shapes=changed.shapes,
        steps=changed.steps,
        run_by=run_by,
    )


def example(source: Source) -> tuple[Any, ...]:
    """Return inputs that the source accepts, as tensors in its order."""
    options = {name: sizes.candidates(name, dimension) for name, dimension in source.dimensions.items()}
    _, case = sizes.base(Prober(source), options)
    return tuple(to_torch(case.inputs[spec.name]) for spec in source.inputs)


def _with_layers(module: Any) -> Any:
    makers = _makers()
    graph = module.graph
    made: dict[tuple[str, ...], str] = {}
    for node in list(graph.nodes):
        maker = makers.get(str(node.target)) if node.op == "call_function" else None
        if maker is None or node.kwargs:
            continue
        arguments = [*node.args, *[None] * (_ARGUMENTS - len(node.args))]
        tensors = [
            parameter(module, one) if getattr(one, "op", "") == "get_attr" else one for one in arguments
        ]
        layer = maker(*tensors[1:])
        if layer is None:
            continue
        key = (str(node.target), *map(str, node.args[1:]))
        if key not in made:
            made[key] = f"{node.name}_layer"
            module.add_submodule(made[key], layer)
        with graph.inserting_before(node):
            call = graph.call_module(made[key], (node.args[0],))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def parameter(module: Any, node: Any) -> Any:
    """Return the tensor of a ``get_attr`` node."""
    owner, _, name = node.target.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _makers() -> dict[str, Callable[..., Any]]:
    return {
        "aten.linear.default": _linear,
        **{f"aten.conv{n}d.default": _convolution(n) for n in (1, 2, 3)},
        "aten.batch_norm.default": _batch_norm,
        "aten.layer_norm.default": _layer_norm,
    }


def _is_parameter(value: Any) -> bool:
    import torch

    return isinstance(value, torch.nn.Parameter)


def _linear(weight: Any, bias: Any, *_: Any) -> Any:
    import torch

    if not _is_parameter(weight):
        return None
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias
    return layer


def _convolution(dimensions: int) -> Callable[..., Any]:
    def make(
        weight: Any,
        bias: Any = None,
        stride: Any = None,
        padding: Any = None,
        dilation: Any = None,
        groups: Any = None,
        *_: Any,
    ) -> Any:
        import torch

        if not _is_parameter(weight):
            return None
        kind = getattr(torch.nn, f"Conv{dimensions}d")
        groups = groups or 1
        layer = kind(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            stride=tuple(stride or [1] * dimensions),
            padding=tuple(padding or [0] * dimensions),
            dilation=tuple(dilation or [1] * dimensions),
            groups=groups,
            bias=bias is not None,
            device="meta",
        )
        layer.weight, layer.bias = weight, bias
        return layer

    return make


def _batch_norm(
    weight: Any, bias: Any, mean: Any, variance: Any, training: Any, momentum: Any, epsilon: Any, *_: Any
) -> Any:
    import torch

    if not _is_parameter(weight) or not _is_parameter(bias) or mean is None or training:
        return None

    class Norm(torch.nn.BatchNorm2d):  # type: ignore[misc]  # pruning knows this class
        def _check_input_dim(self, input: Any) -> None:  # noqa: A002 - torch's name
            """Accept any number of axes."""

    layer = Norm(weight.shape[0], eps=epsilon, momentum=momentum, device="meta")
    layer.weight, layer.bias = weight, bias
    layer.running_mean, layer.running_var = mean, variance
    layer.num_batches_tracked = None
    return layer.eval()


def _layer_norm(shape: Any, weight: Any = None, bias: Any = None, epsilon: Any = 1e-5, *_: Any) -> Any:
    import torch

    if not _is_parameter(weight) or len(shape) != 1:
        return None
    layer = torch.nn.LayerNorm(tuple(shape), eps=1e-5 if epsilon is None else epsilon, device="meta")
    layer.weight, layer.bias = weight, bias
    return layer
