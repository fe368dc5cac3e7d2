"""torch to separate weights and architecture, for further training or for users who have the class.

``model.safetensors`` has every weight and buffer under its name in the state dict. ``architecture.pt2`` (for
TorchScript ``architecture.pt``) is the network without its weights: floating-point weights in it are NaN, so
that it is not mistaken for the model. Both files together run, and are verified together.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..architecture import trained_parameters
from ..base import PROGRAM, SCRIPT, Artefact, Case, Exporter, Source
from ..errors import ConversionFailed, converting
from ..options import Specification
from . import torch_archive, torch_graph, torch_to_pt2

WEIGHTS = "model.safetensors"
PROGRAM_NAME = "architecture.pt2"
SCRIPT_NAME = "architecture.pt"

SPECIFICATION = Specification(name="pytorch", extension=".safetensors", options={}, embeds=True)


class TorchToPyTorch(Exporter):
    specification = SPECIFICATION
    takes = (PROGRAM, SCRIPT)
    modules = ("torch", "safetensors")

    def converters(self, source: Source, options: Mapping[str, Any]) -> Iterable[str]:
        return ("state-dict",)

    def convert(
        self, source: Source, example: Case, options: Mapping[str, Any], folder: Path, converter: str
    ) -> Artefact:
        """Write the weights and the architecture into ``folder``.

        Raises:
            ConversionFailed: the weights are constants in the code (frozen TorchScript), or there are none.
        """
        from safetensors.torch import save_file

        state = source.program.state_dict if source.family == PROGRAM else source.program.state_dict()
        if not state:
            raise ConversionFailed(
                "The model has no weights that can be separated from its code: it was frozen, or "
                "has no weights. Export it to pt2 or torchscript instead."
            )
        write = _write_program if source.family == PROGRAM else _write_script
        with converting("torch cannot separate the weights from this model", converter), torch_graph.quiet():
            # The format does not support tied weights, one tensor under two names: each gets a copy.
            weights = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
            save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
            architecture = write(source, example, folder)
        parameters = trained_parameters(source)
        details = {
            "architecture_hash": _architecture_hash(folder / architecture, state),
            "parameter_count": sum(parameter.numel() for parameter in parameters),
        }
        return Artefact((WEIGHTS, architecture), converter, details)


EXPORTER = TorchToPyTorch()


def _write_program(source: Source, example: Case, folder: Path) -> str:
    program = source.program
    weights = program._state_dict
    program._state_dict = {name: _placeholder(tensor) for name, tensor in weights.items()}
    try:
        torch_to_pt2.save(program, source, example, folder / PROGRAM_NAME)
    finally:
        program._state_dict = weights
    return PROGRAM_NAME


def _write_script(source: Source, example: Case, folder: Path) -> str:
    import torch

    path = folder / SCRIPT_NAME
    torch.jit.save(source.program, str(path))
    empty = torch.jit.load(str(path))
    saved = empty.state_dict()
    with torch.no_grad():
        for name, tensor in tensors(empty).items():
            if name in saved:  # a buffer outside the state dict stays in the architecture
                tensor.set_(_placeholder(tensor))
    torch.jit.save(empty, str(path), _extra_files=torch_graph.interface(source, example))
    torch_archive.strip_script(path)
    return SCRIPT_NAME


def tensors(script: Any) -> dict[str, Any]:
    """Return TorchScript's parameters and buffers themselves; its ``state_dict`` has copies of handles."""
    return {**dict(script.named_parameters()), **dict(script.named_buffers())}


def _placeholder(tensor: Any) -> Any:
    """Return one number in the shape of a weight; integers, like a batch norm's count of batches, are 0."""
    import torch

    number = torch.full((), float("nan") if tensor.is_floating_point() else 0, dtype=tensor.dtype)
    placeholder = number.expand(tensor.shape)
    return torch.nn.Parameter(placeholder) if isinstance(tensor, torch.nn.Parameter) else placeholder


def _architecture_hash(path: Path, state: Mapping[str, Any]) -> str:
    """Return the sha256 of graph and of weights' names, shapes and dtypes, equal after more training."""
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    digest = hashlib.sha256()
    for name in sorted(reader.get_all_records()):
        if name.startswith("code/"):
            digest.update(reader.get_record(name))
        elif name == "models/model.json":
            graph = json.loads(reader.get_record(name))["graph_module"]
            digest.update(json.dumps(graph, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
    return digest.hexdigest()
