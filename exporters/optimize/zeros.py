"""Zeros instead of the smallest weights of each convolution, linear and recurrent layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..base import Source
from ..errors import OptimizationFailed
from . import pruning, torch_layers
from .base import Training
from .tuning import tuned

# Operators whose weights stay in the graph: they become no layer.
_OPERATORS = (
    *("aten.gru.", "aten.lstm.", "aten.rnn_", "aten.matmul.", "aten.mm.", "aten.addmm."),
    *("aten.conv_transpose", "aten.conv1d.", "aten.conv2d.", "aten.conv3d."),
)
_LEAST = 0.9  # of the share asked for: groups of a pattern need not divide a row


def prune(
    source: Source, config: Mapping[str, Any], training: Training | None
) -> tuple[Source, dict[str, Any]]:
    """Return the source with zeros instead of the weights of the smallest magnitude; see ``SourceTechnique``.

    Raises:
        OptimizationFailed: there are no such weights, or fewer become zero than were asked for.
        UnsupportedOption: the source is no exported program.
    """
    module = torch_layers.network(source)
    tuning = tuned(module, source, config, training)
    weights = dict(_weights(module))
    steps = pruning.steps(config)
    _check_reachable(weights.values(), config)
    for step in range(1, steps + 1):
        share = config["sparsity"] * step / steps
        for weight in weights.values():
            weight.data = _zeroed(weight.detach(), share, config["pattern"])
        if tuning is not None:
            tuning.train(module)
    changed = torch_layers.as_source(module, source, pruning.run_by(config))
    return changed, {
        "sparsity": round(_share_of_zeros(weights.values()), 4),
        "layers": {name: round(_share_of_zeros([weight]), 4) for name, weight in weights.items()},
        "note": "Zeros are stored like other weights: size and latency of the artefact stay as they were.",
        **({} if tuning is None else {"training": tuning.report()}),
    }


def _share_of_zeros(weights: Collection[Any]) -> float:
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def _check_reachable(weights: Collection[Any], config: Mapping[str, Any]) -> None:
    """Raises OptimizationFailed: fewer weights can become zero than were asked for."""
    sparsity = config["sparsity"]
    found = _share_of_zeros([_zeroed(weight.detach(), sparsity, config["pattern"]) for weight in weights])
    if found < _LEAST * sparsity:
        total = sum(weight.numel() for weight in weights)
        raise OptimizationFailed(
            f"Only {round(found * total):,} of {total:,} weights in convolutions, linear and recurrent "
            f"layers could become zero, not {sparsity:g} of them. Use another pattern, or remove "
            "optimization_config.pruning.",
            sparsity=found,
        )


def _weights(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield each weight of a layer or of an operator of the graph, once."""
    import torch

    seen: set[int] = set()
    graph = module.graph
    found = [
        (node.target, torch_layers.parameter(graph, node))
        for node in graph.graph.nodes
        if node.op == "get_attr" and any(str(user.target).startswith(_OPERATORS) for user in node.users)
    ]
    found += [
        (name.removeprefix("graph.").removesuffix("_layer"), layer.weight)
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd)
    ]
    for name, weight in found:
        if weight.ndim > 1 and weight.is_floating_point() and id(weight) not in seen:
            seen.add(id(weight))
            yield name, weight


def _zeroed(weight: Any, sparsity: float, pattern: str | None) -> Any:
    """Return a copy of ``float[out, ...]`` with zeros; a pattern applies to the inputs of each output."""
    import torch

    rows = weight.clone().reshape(len(weight), -1)
    if pattern is None:
        count = round(sparsity * rows.numel())
        flat = rows.view(-1)
        flat[torch.argsort(flat.abs(), stable=True)[:count]] = 0
    else:
        kept, group = map(int, pattern.split(":"))
        whole = rows.shape[1] // group * group
        groups = rows[:, :whole].reshape(len(rows), -1, group)
        order = torch.argsort(groups.abs(), dim=-1, stable=True)[..., : group - kept]
        rows[:, :whole] = groups.scatter(-1, order, 0).reshape(len(rows), whole)
    return rows.reshape(weight.shape)
