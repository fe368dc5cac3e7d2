import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import registry, runners
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsafeCheckpoint, UnsupportedOption
from exporters.proof import golden
from exporters.request import ExportRequest

from ..conftest import Export
from ..models import SAMPLES, Reader, Sample
from .torch_formats import Reshaping, save_program

cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)


@cells
def test_torch_alone_loads_it_and_gets_the_answers_of_the_model(sample: Sample, exported: Export) -> None:
    program = torch.export.load(exported(sample, "pt2").package_dir / "model.pt2")
    inputs = sample.arrays(rows=2)

    answer = program.module()(*map(torch.from_numpy, inputs.values()))

    named = answer if isinstance(answer, dict) else {"output": answer}
    expected = sample.answers(inputs)
    assert list(named) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(named[name].detach().numpy(), array, rtol=1e-5, atol=1e-6)


@cells
def test_it_holds_no_stack_traces_and_the_golden_inputs(sample: Sample, exported: Export) -> None:
    folder = exported(sample, "pt2").package_dir
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        whole = b"".join(archive.read(name) for name in archive.namelist())
    args, kwargs = torch.export.load(folder / "model.pt2").example_inputs

    assert b"stack_trace" not in whole
    assert b"models.py" not in whole
    case = golden.read(folder / "golden.npz")
    for tensor, array in zip([*args, *kwargs.values()], case.inputs.values(), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_what_it_makes_is_a_source_again(exported: Export, tmp_path: Path) -> None:
    """And saving it once more changes nothing: there is no author's trace left to drop."""
    reader = next(sample for sample in SAMPLES if sample.id == "reader-pt2")
    first = exported(reader, "pt2").package_dir / "model.pt2"

    result = run(ExportRequest(first, tmp_path / "out", "pt2"))

    assert result.verdict == "verified"
    assert (tmp_path / "out/model.pt2").read_bytes() == first.read_bytes()


def test_torchscript_is_read_back_with_its_dynamic_axes_and_names(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Reader().eval()), tmp_path / "model.pt")
    options = {
        "inputs": [{"shape": ["batch", "length"], "dtype": "int64"}, {"shape": ["batch", 1]}],
    }

    result = run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "pt2", options))

    assert (result.verdict, result.converter) == ("verified", "ts2ep")
    runner = runners.load(tmp_path / "out")
    assert [spec.shape for spec in runner.inputs] == [("batch", "length"), ("batch", 1)]
    assert [spec.name for spec in runner.outputs] == ["scores", "scaled"]


def test_torchscript_that_calculates_with_its_batch_is_not_frozen_in_silence(tmp_path: Path) -> None:
    """torch's converter makes a number of ``2 * x.shape[0]``."""
    torch.jit.save(torch.jit.script(Reshaping().eval()), tmp_path / "model.pt")
    options = {"inputs": [{"shape": ["batch", 8]}]}

    with pytest.raises(ConversionFailed, match="Constraints violated"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "pt2", options))


def test_torchscript_that_decides_at_run_time_is_refused_with_advice(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while float(x.sum()) > 10:
                x = x / 2
            return x

    torch.jit.save(torch.jit.script(Branching()), tmp_path / "model.pt")
    options = {"inputs": [{"shape": ["batch", 3]}]}

    with pytest.raises(ConversionFailed, match=r"use torch\.export\.export"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "pt2", options))


def test_it_has_no_options_of_its_own() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.specification("pt2").validate({"opset_version": 18})

    assert "inputs" in caught.value.allowed


def test_a_hostile_artefact_is_refused_before_it_runs(exported: Export, tmp_path: Path) -> None:
    """A package may come from anywhere."""
    whole = exported(SAMPLES[0], "pt2").package_dir / "model.pt2"
    with (
        zipfile.ZipFile(whole) as archive,
        zipfile.ZipFile(tmp_path / "model.pt2", "w") as hostile,
    ):
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("models/model.json"):
                content = content.replace(b"torch.ops.aten.relu.default", b"torch.os.system")
            hostile.writestr(name, content)

    with pytest.raises(UnsafeCheckpoint, match=r"torch\.os\.system"):
        runners.open_artefact("pt2", tmp_path / "model.pt2")


def test_a_program_that_no_export_made_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"interface\.json"):
        runners.open_artefact("pt2", checkpoint("mlp-pt2"))


def test_names_of_axes_survive(tmp_path: Path) -> None:
    source = save_program(Reshaping(), 8, tmp_path / "model.pt2")

    run(ExportRequest(source, tmp_path / "out", "pt2"))

    assert [spec.shape for spec in runners.load(tmp_path / "out").outputs] == [("2*batch", 4), ("batch", 8)]


def test_normalised_weights_are_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 3, 3), dim=2).eval()
    torch.export.save(torch.export.export(net, (torch.randn(2, 2, 8),)), tmp_path / "model.pt2")

    result = run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "pt2"))

    assert result.verdict == "verified"
