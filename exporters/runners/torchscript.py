"""Run TorchScript with torch, on the CPU."""

from pathlib import Path

from ..formats.torch_graph import INTERFACE
from .torch_module import TorchRunner, read_interface


def load(path: Path, threads: int = 1) -> TorchRunner:
    """Load a module. Raises InvalidSource, UnsafeCheckpoint; ValueError if it is not from an export."""
    from ..sources.torchscript import read

    extra = {INTERFACE: ""}
    module = read(path, extra)
    return TorchRunner(module, *read_interface(extra[INTERFACE]), threads)
