"""An exported program through torch, on the CPU: read as a checkpoint is, through the same gate."""

from pathlib import Path
from typing import Any

from ..formats.torch_graph import INTERFACE
from .torch_module import TorchRunner, read_interface


def load(path: Path, threads: int = 1) -> TorchRunner:
    """Raises InvalidSource and UnsafeCheckpoint as ``sources.pt2``; ValueError where no export made it."""
    from ..request import Trust
    from ..sources import pt2

    return of_program(pt2.load(path, {}, Trust()).program, path, threads)


def of_program(program: Any, path: Path, threads: int) -> TorchRunner:
    """The program, with the names that the archive at ``path`` gives its inputs and outputs."""
    import torch
    from torch.utils._pytree import tree_unflatten

    reader = torch._C.PyTorchFileReader(str(path))
    known = f"extra/{INTERFACE}" in reader.get_all_records()
    names = read_interface(reader.get_record(f"extra/{INTERFACE}") if known else "")
    module = program.module()
    in_spec = program.call_spec.in_spec

    def call(*tensors: Any) -> Any:
        args, kwargs = tree_unflatten(list(tensors), in_spec)
        return module(*args, **kwargs)

    return TorchRunner(call, *names, threads)
