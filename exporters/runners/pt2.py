"""Run an exported program with torch, on the CPU; it is read through the same gate as a checkpoint."""

from pathlib import Path
from typing import Any

from ..formats.torch_graph import INTERFACE
from .torch_module import TorchRunner, read_interface


def load(path: Path, threads: int = 1) -> TorchRunner:
    """Load a program. Raises InvalidSource, UnsafeCheckpoint; ValueError if it is not from an export."""
    from ..request import Trust
    from ..sources import pt2

    return of_program(pt2.load(path, {}, Trust()).program, path, threads)


def of_program(program: Any, path: Path, threads: int) -> TorchRunner:
    """Return a runner of the program, with the archive's names of its inputs and outputs."""
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
