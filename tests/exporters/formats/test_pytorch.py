import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from exporters import runners
from exporters.convert import run
from exporters.errors import ConversionFailed
from exporters.request import ExportRequest

from ..conftest import Export
from ..models import SAMPLES, Mlp, Sample
from .torch_formats import Tied, save_program

cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)


@cells
def test_the_class_takes_the_weights(sample: Sample, exported: Export) -> None:
    model = sample.build().eval()

    model.load_state_dict(load_file(exported(sample, "pytorch").package_dir / "model.safetensors"))

    inputs = sample.arrays(rows=2)
    with torch.no_grad():
        answer = model(*map(torch.from_numpy, inputs.values()))
    named = answer if isinstance(answer, dict) else {"output": answer}
    for name, array in sample.answers(inputs).items():
        np.testing.assert_array_equal(named[name].numpy(), array)


@cells
def test_the_architecture_alone_cannot_be_taken_for_the_model(sample: Sample, exported: Export) -> None:
    folder = exported(sample, "pytorch").package_dir
    tensors = [torch.from_numpy(array) for array in sample.arrays(rows=2).values()]

    if sample.kind == "pt2":
        answer = torch.export.load(folder / "architecture.pt2").module()(*tensors)
    else:
        answer = torch.jit.load(folder / "architecture.pt")(*tensors)

    for tensor in answer.values() if isinstance(answer, dict) else [answer]:
        assert tensor.isnan().all()


def test_metadata_describes_the_architecture_and_not_the_weights(tmp_path: Path) -> None:
    def export(name: str, model: nn.Module) -> dict:
        source = save_program(model, 6, tmp_path / f"{name}.pt2")
        run(ExportRequest(source, tmp_path / name, "pytorch"))
        return json.loads((tmp_path / name / "metadata.json").read_bytes())["artefact"]

    torch.manual_seed(1)
    first, retrained = export("first", Mlp()), export("second", Mlp())
    other = export("other", Tied())

    assert first["parameter_count"] == sum(parameter.numel() for parameter in Mlp().parameters())
    assert first["architecture_hash"] == retrained["architecture_hash"] != other["architecture_hash"]
    assert other["parameter_count"] == 36  # tied weights count once
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("kind", ["program", "script"])
def test_tied_weights_and_buffers_that_are_not_saved(kind: str, tmp_path: Path) -> None:
    model, options = Tied().eval(), {}
    if kind == "program":
        source = save_program(model, 6, tmp_path / "model.pt2")
    else:
        source, options = tmp_path / "model.pt", {"inputs": [{"shape": ["batch", 6]}]}
        torch.jit.save(torch.jit.script(model), source)

    assert run(ExportRequest(source, tmp_path / "out", "pytorch", options)).verdict == "verified"

    weights = load_file(tmp_path / "out/model.safetensors")
    assert ("shift" in weights) == (kind == "script")  # TorchScript saves every buffer
    weights.pop("shift", None)
    again = Tied()
    again.load_state_dict(weights)
    assert torch.equal(again.first.weight, model.first.weight)


def test_weights_of_something_else_are_refused(exported: Export, tmp_path: Path) -> None:
    folder = exported(SAMPLES[2], "pytorch").package_dir
    (tmp_path / "architecture.pt2").write_bytes((folder / "architecture.pt2").read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["layers.0.weight"] = weights["layers.0.weight"].T.contiguous()
    save_file(weights, tmp_path / "model.safetensors")

    with pytest.raises(
        RuntimeError, match=r"do not match the architecture; the first difference: 'layers\.0\.weight'"
    ):
        runners.open_artefact("pytorch", tmp_path / "model.safetensors")


def test_a_frozen_model_has_no_weights_to_give(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.load(checkpoint("conv-torchscript")).eval()), tmp_path / "m.pt")
    options = {"inputs": [{"name": "image", "shape": ["batch", 1, 8, 8]}]}

    with pytest.raises(ConversionFailed, match="no weights that can be separated from its code"):
        run(ExportRequest(tmp_path / "m.pt", tmp_path / "out", "pytorch", options))
