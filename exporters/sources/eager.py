"""A network that was built here, in eager mode, and the graph that the converters get.

``torch.export`` creates the graph if it can; otherwise a trace (TorchScript) does. The graph is only used for
conversion: artefacts are always compared with the network itself.
"""

import inspect
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Arrays, Dimension, Source, TensorSpec
from ..errors import InvalidSource, as_limit, reason
from . import operators
from .tensors import flatten_outputs, to_numpy, to_torch

# Never 1, which torch would treat as a constant, and never the same size for two axes.
_BATCH = 2
_SIZES = (16, 24, 32, 40, 64, 128, 224, 256)


@dataclass(frozen=True)
class Network:
    """``module``: on the CPU, in eval mode. ``by_keyword``: inputs are passed by name instead of position."""

    module: Any
    inputs: tuple[TensorSpec, ...]
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)  # the known limits of the named axes
    integers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    by_keyword: bool = False
    classes: tuple[str, ...] | None = None
    attachments: tuple[Path, ...] = ()


def load(kind: str, network: Network) -> Source:
    """Return the network as a source of ``kind``.

    Raises:
        InvalidSource: it does not run on inputs of its shapes, or neither torch.export nor a trace follow it.
    """
    import torch

    for parameter in network.module.parameters():
        parameter.requires_grad_(False)
    module = network.module.eval()
    specs = network.inputs
    names = {spec.name for spec in specs}
    named = dict.fromkeys(size for spec in specs for size in spec.shape if isinstance(size, str))
    dimensions = {name: network.dimensions.get(name, Dimension()) for name in named}

    def call(*flat: Any) -> Any:
        if network.by_keyword:
            return module(**{spec.name: tensor for spec, tensor in zip(specs, flat, strict=True)})
        return module(*flat)

    def tensors(value: Any) -> dict[str, Any]:
        outputs = flatten_outputs(value, names)
        return {name: part for name, part in outputs.items() if isinstance(part, torch.Tensor)}

    def reference(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = tensors(call(*(to_torch(arrays[spec.name]) for spec in specs)))
        return {name: to_numpy(value) for name, value in outputs.items()}

    def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        return {spec.name: _shape(spec, sizes) for spec in specs}

    class Named(torch.nn.Module):  # type: ignore[misc]
        """Takes the inputs in order and returns the outputs by name."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *flat: Any) -> Any:
            return tensors(call(*flat))

    class Traced(Named):
        """Returns outputs without names, as a trace has none: nested like the network's, or a tuple."""

        def forward(self, *flat: Any) -> Any:
            value = call(*flat)
            return tuple(tensors(value).values()) if isinstance(value, dict) else value

    for wrapper in (Named, Traced):
        wrapper.forward.__signature__ = _signature(specs)  # type: ignore[attr-defined]
    example, sizes = _example(call, specs, dimensions, network.integers)
    family, program = _capture(Named().eval(), Traced().eval(), specs, dimensions, example)
    used = operators.of_program(program) if family == PROGRAM else operators.of_script(program)
    return Source(
        kind=kind,
        family=family,
        program=program,
        inputs=specs,
        dimensions={name: _with_example(dimensions[name], sizes[name]) for name in named},
        symbols=_symbols(program, specs) if family == PROGRAM else {},
        reference=reference,
        shapes=shapes,
        integers={spec.name: network.integers[spec.name] for spec in specs if spec.name in network.integers},
        bounded=frozenset(network.integers),
        operators=used.names,
        steps=used.steps,
        classes=network.classes,
        attachments=network.attachments,
    )


def _signature(specs: tuple[TensorSpec, ...]) -> inspect.Signature:
    """Name the graph's inputs like the model's: torch reads the names from this signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [re.sub(r"\W", "_", spec.name) for spec in specs]
    names = [f"{name}_" if keyword.iskeyword(name) or name == "self" else name for name in names]
    return inspect.Signature([inspect.Parameter(name, kind) for name in ("self", *names)])


def _example(
    call: Any,
    specs: tuple[TensorSpec, ...],
    dimensions: Mapping[str, Dimension],
    integers: Mapping[str, tuple[int, int]],
) -> tuple[tuple[Any, ...], dict[str, int]]:
    """Return example inputs of the first sizes that the network runs on, and these sizes."""
    import torch

    failure: Exception | None = None
    for sizes in _choices(dimensions):
        generator = torch.Generator().manual_seed(0)
        example = tuple(
            _tensor(spec, _shape(spec, sizes), integers.get(spec.name, (0, 1)), generator) for spec in specs
        )
        try:
            with torch.no_grad():
                call(*example)
            return example, sizes
        except InvalidSource:
            raise
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            failure = failure or exc
    text = str(failure).strip().splitlines()
    shown = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
    raise InvalidSource(
        f"The model fails on inputs of the shapes {shown}: "
        f"{text[-1][:300] if text else 'no reason given'}. Declare its inputs with the option "
        "inputs."
    ) from failure


def _choices(dimensions: Mapping[str, Dimension]) -> Iterator[dict[str, int]]:
    """Yield sizes to try: all axes different first, then all equal, like the sides of a square image."""
    known = {
        name: _BATCH if name == "batch" else dimension.example
        for name, dimension in dimensions.items()
        if (name == "batch" and dimension.allows(_BATCH)) or dimension.example
    }
    free = [name for name in dimensions if known.get(name) is None]
    options = {name: [size for size in _SIZES if dimensions[name].allows(size)] for name in free}
    for name in free:
        options[name] = options[name] or [dimensions[name].maximum or dimensions[name].minimum]
    found = {name: size for name, size in known.items() if size is not None}
    apart = {name: options[name][min(turn, len(options[name]) - 1)] for turn, name in enumerate(free)}
    yield {**found, **apart}
    for turn in range(len(_SIZES) if free else 0):
        yield {**found, **{name: options[name][min(turn, len(options[name]) - 1)] for name in free}}


def _tensor(spec: TensorSpec, shape: tuple[int, ...], bounds: tuple[int, int], generator: Any) -> Any:
    import torch

    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(bounds[0], bounds[1] + 1, shape, generator=generator).to(dtype)


def _capture(
    named: Any,
    traced: Any,
    specs: tuple[TensorSpec, ...],
    dimensions: Mapping[str, Dimension],
    example: tuple[Any, ...],
) -> tuple[str, Any]:
    """Return (PROGRAM, the exported program), or, if export fails, (SCRIPT, the trace)."""
    import torch

    from ..formats.torch_graph import quiet

    failure: Exception | None = None
    with quiet():
        for dynamic in (_named_axes(specs, dimensions), _found_axes(specs)):
            try:
                with torch.no_grad():
                    program = torch.export.export(named, example, dynamic_shapes=dynamic)
                if _keeps_axes(program, specs):
                    return PROGRAM, program
            except Exception as exc:
                if limit := as_limit(exc):
                    raise limit from exc
                failure = failure or exc
        try:
            with torch.no_grad():
                return SCRIPT, torch.jit.trace(traced, example, check_trace=False)
        except Exception as exc:
            raise as_limit(exc) or InvalidSource(
                f"Neither torch.export nor a trace can record this model: {reason(failure or exc)}"
            ) from exc


def _named_axes(
    specs: tuple[TensorSpec, ...], dimensions: Mapping[str, Dimension]
) -> tuple[dict[int, Any], ...]:
    """Create one symbol per name, within its bounds: inputs that share a name share the size."""
    from torch.export import Dim

    dims = {name: Dim(name, min=size.minimum, max=size.maximum) for name, size in dimensions.items()}
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in specs
    )


def _found_axes(specs: tuple[TensorSpec, ...]) -> tuple[dict[int, Any], ...]:
    """Let torch determine the range of each axis, and which axes are equal."""
    from torch.export import Dim

    return tuple(
        {axis: Dim.AUTO for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in specs
    )


def _inputs(program: Any) -> list[Any]:
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [placeholders[name].meta["val"] for name in program.graph_signature.user_inputs]


def _keeps_axes(program: Any, specs: tuple[TensorSpec, ...]) -> bool:
    """Return False if torch fixed an axis at the traced size, as in the loop of a recurrent layer."""
    return all(
        isinstance(wanted, int) or (not isinstance(size, int) and bool(size.node.expr.free_symbols))
        for spec, meta in zip(specs, _inputs(program), strict=True)
        for wanted, size in zip(spec.shape, meta.shape, strict=True)
    )


def _symbols(program: Any, specs: tuple[TensorSpec, ...]) -> dict[str, str]:
    """torch's name of each dynamic axis (``s31``) → the name in the declared shape."""
    return {
        str(size): wanted
        for spec, meta in zip(specs, _inputs(program), strict=True)
        for wanted, size in zip(spec.shape, meta.shape, strict=True)
        if isinstance(wanted, str)
    }


def _with_example(dimension: Dimension, size: int) -> Dimension:
    return Dimension(dimension.minimum, dimension.maximum, dimension.example or size)


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else sizes[size] for size in spec.shape)
