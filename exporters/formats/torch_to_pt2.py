"""torch to an exported program (``.pt2``): torch.export's graph with weights, for Python and AOTInductor.

A program is written again: by the installed torch, without its author's paths and example inputs. torch's own
converter converts TorchScript to a program.
"""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import PROGRAM, SCRIPT, Artefact, Case, Exporter, Source
from ..errors import converting
from ..options import Specification
from . import torch_archive, torch_graph

NAME = "model.pt2"
_EXPORT = "export"
_TS2EP = "ts2ep"
_TS2EP_FROZEN = "ts2ep-frozen"

SPECIFICATION = Specification(name="pt2", extension=".pt2", options={}, embeds=True)


class TorchToPt2(Exporter):
    specification = SPECIFICATION
    takes = (PROGRAM, SCRIPT)
    modules = ("torch",)

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return (_EXPORT,) if source.family == PROGRAM else (_TS2EP, _TS2EP_FROZEN)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write ``model.pt2`` into ``folder``; its example inputs are the golden ones.

        Raises:
            ConversionFailed: TorchScript that torch cannot convert to a program.
        """
        import torch

        failure = "torch cannot create an exported program of this model"
        advice = ". If you have its Python source, use torch.export.export."
        with converting(failure, converter, advice), torch_graph.quiet():
            program = source.program
            if converter != _EXPORT:
                program = _from_script(source, example, frozen=converter == _TS2EP_FROZEN)
            save(program, source, example, folder / NAME)
        return Artefact((NAME,), converter, {"torch_version": torch.__version__.partition("+")[0]})


EXPORTER = TorchToPt2()


def save(program: Any, source: Source, example: Case, path: Path) -> None:
    """Write the program to ``path``, equal bytes for equal programs."""
    import torch
    from torch.utils._pytree import tree_unflatten

    args = tree_unflatten(torch_graph.example_tensors(source, example), program.call_spec.in_spec)
    samples = io.BytesIO()
    torch.save(args, samples)
    torch.export.save(program, path, extra_files=torch_graph.interface(source, example))
    torch_archive.strip_program(path, samples.getvalue())


def _from_script(source: Source, example: Case, frozen: bool) -> Any:
    """Convert TorchScript to a program: only the declared axes are dynamic, and outputs have their names."""
    import torch
    from torch._export.converter import TS2EPConverter
    from torch.export import Dim

    args = torch_graph.example_tensors(source, example)
    script = torch.jit.freeze(source.program) if frozen else source.program
    inner = TS2EPConverter(script, args).convert().module(check_guards=False)
    names = list(example.expected)

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = inner

        def forward(self, *inputs: Any) -> Any:
            leaves = torch.utils._pytree.tree_leaves(self.network(*inputs))
            return leaves[0] if len(leaves) == 1 else dict(zip(names, leaves, strict=True))

    sizes = {name: Dim(name, min=size.minimum, max=size.maximum) for name, size in source.dimensions.items()}
    dynamic = tuple(
        {axis: sizes[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.inputs
    )
    with torch.no_grad():
        return torch.export.export(Named(), args, dynamic_shapes=(dynamic,), strict=False)
