"""The removal of channels by torch-pruning, and the check that they are gone.

torch-pruning leaves layers that it cannot prune as they were, without an error: recurrent layers, and layers
whose channels a reshape with fixed sizes splits, like a transformer's heads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..base import Source
from ..errors import OptimizationFailed, converting
from ..formats.torch_graph import quiet
from . import pruning, torch_layers
from .base import Training
from .tuning import tuned

# Of the share asked for; a layer has whole channels, so that a layer of three cannot lose a half.
_LEAST = 0.9


def prune(
    source: Source, config: Mapping[str, Any], training: Training | None
) -> tuple[Source, dict[str, Any]]:
    """Return the source without the channels whose weights have the smallest norms; see ``SourceTechnique``.

    The report has the share of the channels that were removed of the pruned layers, the parameters and
    multiplications before and after, and the layers that stay as they were.

    Raises:
        OptimizationFailed: no layer can be pruned, or less is removed than requested.
        UnsupportedOption: the source is no exported program.
    """
    import torch_pruning

    module = torch_layers.network(source)
    inputs = torch_layers.example(source)
    tuning = tuned(module, source, config, training)
    with converting("torch-pruning cannot prune this model", "structured", _ADVICE), quiet():
        macs, parameters = torch_pruning.utils.count_ops_and_params(module, inputs)
        channels = _channels(module)
        kept = _not_prunable(module, inputs)
        if not set(channels) - kept:
            raise OptimizationFailed(
                "No layer of this model can be pruned by channels: its layers are recurrent, its outputs, or "
                f"split by fixed sizes{_listed(channels)}. Use unstructured pruning, or quantization.",
                layers=sorted(channels),
            )
        pruned = _pruned(module, inputs, kept, config["sparsity"], pruning.steps(config))
        macs_after, parameters_after = torch_pruning.utils.count_ops_and_params(pruned, inputs)
    after = _channels(pruned)
    names = [name for name in channels if name not in kept]
    sparsity = 1 - sum(after[name] for name in names) / sum(channels[name] for name in names)
    if sparsity < _LEAST * config["sparsity"]:
        raise OptimizationFailed(
            f"Only {sparsity:.3f} of the channels could be removed, not {config['sparsity']:g}: the layers "
            f"are narrow or depend on one another{_listed(names)}. "
            + (f"Ask for a sparsity of {sparsity:.2f}." if sparsity >= 0.01 else _ADVICE.strip()),
            sparsity=sparsity,
        )
    if tuning is not None:  # now that the sparsity is known to be reached
        pruned = _pruned(module, inputs, kept, config["sparsity"], pruning.steps(config), tuning.train)
        after = _channels(pruned)
    changed = torch_layers.as_source(pruned, source, pruning.run_by(config))
    return changed, {
        "sparsity": round(sparsity, 4),
        "parameters": {"before": int(parameters), "after": int(parameters_after)},
        "multiplications": {"before": int(macs), "after": int(macs_after)},
        "pruned": {name: [channels[name], after[name]] for name in names if after[name] < channels[name]},
        "not_pruned": [name for name in channels if after[name] == channels[name]],
        **({} if tuning is None else {"training": tuning.report()}),
    }


_ADVICE = " Use unstructured pruning, or quantization."


def _listed(names: Iterable[str]) -> str:
    shown = list(names)[:20]
    return f" ({', '.join(shown)})" if shown else ""


def _channels(module: Any) -> dict[str, int]:
    """Return the number of output channels of each layer, by its name."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return {
        name.removeprefix("graph.").removesuffix("_layer"): layer.weight.shape[0]
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    }


def _layer(module: Any, name: str) -> Any:
    return module.get_submodule(f"graph.{name}_layer")


def _untrained(network: Any) -> None:
    """Leave the network as it is after a step of the pruning."""


def _pruned(
    module: Any,
    inputs: Any,
    kept: set[str],
    sparsity: float,
    steps: int = 1,
    train: Callable[[Any], None] = _untrained,
) -> Any:
    """Return a pruned copy, which is trained after each step."""
    import torch_pruning

    module = copy.deepcopy(module)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # torch-pruning follows the gradients
    pruner = torch_pruning.pruner.BasePruner(
        module,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=sparsity,
        iterative_steps=steps,
        ignored_layers=[_layer(module, name) for name in kept],
    )
    for _ in range(steps):
        pruner.step()
        train(module)
    return module


def _not_prunable(module: Any, inputs: Any) -> set[str]:
    """Return the layers without which the network runs on, with outputs of the same shapes, after pruning."""
    names = list(_channels(module))
    kept = _before_outputs(module, names)
    if _still_runs(module, inputs, kept):
        return kept
    others = set(names) - kept
    return kept | {name for name in others if not _still_runs(module, inputs, set(names) - {name})}


def _still_runs(module: Any, inputs: Any, kept: set[str]) -> bool:
    import torch
    from torch.utils._pytree import tree_leaves

    def shapes(network: Any) -> list[Any]:
        with torch.no_grad():
            return [leaf.shape for leaf in tree_leaves(network(*inputs)) if hasattr(leaf, "shape")]

    try:
        return shapes(_pruned(module, inputs, kept, 0.5)) == shapes(module)
    except (RuntimeError, ValueError, IndexError, AssertionError):  # of shapes that do not fit any more
        return False


def _before_outputs(module: Any, names: list[str]) -> set[str]:
    """Return the layers whose outputs reach the network's outputs without another layer in between."""
    graph = module.graph.graph
    found: set[str] = set()
    seen: set[Any] = set()
    waiting = list(next(node for node in graph.nodes if node.op == "output").all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        name = str(node.target).removesuffix("_layer")
        if node.op == "call_module" and name in names:
            found.add(name)
        else:
            waiting += node.all_input_nodes
    return found
