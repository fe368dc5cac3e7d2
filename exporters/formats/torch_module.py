"""A torch network with the source's names, for converters that trace a module instead of a program."""

from typing import Any

from ..base import PROGRAM, Case, Source


def as_module(source: Source) -> Any:
    """Return a ``torch.nn.Module`` with the source's inputs as keywords and its outputs by name.

    TorchScript is frozen and kept outside the module's parameters: torch.export does not accept parameters
    that a script module owns.
    """
    import torch
    from torch.utils._pytree import tree_unflatten

    from ..sources.tensors import flatten_outputs

    names = [spec.name for spec in source.inputs]
    if source.family == PROGRAM:
        network = source.program.module(check_guards=False)
        in_spec = source.program.call_spec.in_spec
    else:
        network, in_spec = torch.jit.freeze(source.program), None
    held = (network,)

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            if in_spec is not None:
                self.network = network

        def forward(self, **inputs: Any) -> dict[str, Any]:
            flat = [inputs[name] for name in names]
            args, kwargs = tree_unflatten(flat, in_spec) if in_spec is not None else (flat, {})
            return flatten_outputs(held[0](*args, **kwargs), names)

    return Named()


def as_program(source: Source, example: Case) -> Any:
    """Return the source as a ``torch.export.ExportedProgram`` with the example's fixed shapes.

    Raises:
        torch's own errors: TorchScript that branches on the values of tensors.
    """
    import torch

    with torch.no_grad():
        program = torch.export.export(as_module(source), (), example_keywords(source, example))
    if source.family == PROGRAM:
        return program
    return program.run_decompositions({torch.ops.aten._convolution.default: _convolution})


def _convolution(*arguments: Any) -> Any:
    """Drop the last four arguments of a traced convolution, which are cuDNN's settings."""
    import torch

    return torch.ops.aten.convolution.default(*arguments[:9])


def example_keywords(source: Source, example: Case) -> dict[str, Any]:
    from ..sources.tensors import to_torch

    return {spec.name: to_torch(example.inputs[spec.name]) for spec in source.inputs}
