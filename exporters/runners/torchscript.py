"""TorchScript through torch, on the CPU."""

from pathlib import Path

from ..formats.torch_graph import INTERFACE
from .torch_module import TorchRunner, read_interface


def load(path: Path, threads: int = 1) -> TorchRunner:
    """Raises InvalidSource and UnsafeCheckpoint as ``check_code``; ValueError where no export made it."""
    import torch

    from ..sources.torchscript import check_code

    check_code(path)
    extra = {INTERFACE: ""}
    module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()
    return TorchRunner(module, *read_interface(extra[INTERFACE]), threads)
