"""Combine weights and architecture, and run them with torch, on the CPU."""

from pathlib import Path

from ..formats.torch_graph import INTERFACE
from ..formats.torch_to_pytorch import PROGRAM_NAME, SCRIPT_NAME, tensors
from . import pt2
from .torch_module import TorchRunner, read_interface


def load(path: Path, threads: int = 1) -> TorchRunner:
    """Load the weights in ``path`` and the architecture beside them.

    Raises:
        RuntimeError: a name, a shape or a dtype of the weights does not fit the architecture.
        InvalidSource, UnsafeCheckpoint: as ``sources.pt2``.
    """
    from safetensors.torch import load_file

    weights = load_file(path)
    if (path.parent / PROGRAM_NAME).exists():
        from ..request import Trust
        from ..sources import pt2 as source

        architecture = path.parent / PROGRAM_NAME
        program = source.load(architecture, {}, Trust()).program
        _require_fit(program.state_dict, weights)
        for name, placeholder in program.state_dict.items():
            program.state_dict[name] = type(placeholder)(weights[name])
        return pt2.of_program(program, architecture, threads)
    import torch

    from ..sources.torchscript import read

    extra = {INTERFACE: ""}
    module = read(path.parent / SCRIPT_NAME, extra)
    _require_fit(module.state_dict(), weights)
    with torch.no_grad():
        for name, placeholder in tensors(module).items():
            if name in weights:
                placeholder.set_(weights[name])
    return TorchRunner(module, *read_interface(extra[INTERFACE]), threads)


def _require_fit(state: dict[str, object], weights: dict[str, object]) -> None:
    def describe(tensors: dict[str, object]) -> dict[str, str]:
        return {name: f"{getattr(t, 'dtype', '')} {getattr(t, 'shape', '')}" for name, t in tensors.items()}

    ours, theirs = describe(state), describe(weights)
    wrong = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    if wrong:
        raise RuntimeError(
            f"The weights do not match the architecture; the first difference: {min(wrong)!r}."
        )
