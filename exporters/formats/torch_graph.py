"""What the formats that start from torch share."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from ..base import PROGRAM, Case, Source


def example_tensors(source: Source, example: Case) -> tuple[Any, ...]:
    """The example's inputs as torch tensors, in the order the network takes them."""
    from ..sources.tensors import to_torch

    return tuple(to_torch(example.inputs[spec.name]) for spec in source.inputs)


def as_script(source: Source, example: Case) -> Any:
    """The network as TorchScript; an exported program is traced on the example, its outputs in a flat tuple.

    ``forward`` is called past the hooks of the module: its check of shapes cannot be traced.
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters warn at length about their own internals; what went wrong is an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def reason(exc: BaseException) -> str:
    """The innermost cause in one line: the outer ones are advice on debugging torch itself."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {lines[0][:300] if lines else 'no reason given'}"
