import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import registry, runners
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsafeCheckpoint, UnsupportedOption, VerificationFailed
from exporters.request import ExportRequest

from ..conftest import Export
from ..models import SAMPLES, Sample
from ..reproducible import contents
from .torch_formats import Reshaping, export_elsewhere, save_program

cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
ARTEFACT = "model.torchscript.pt"


@cells
def test_torch_alone_loads_it_and_gets_the_answers_of_the_model(sample: Sample, exported: Export) -> None:
    folder = exported(sample, "torchscript").package_dir
    inputs = sample.arrays(rows=2)

    answer = torch.jit.load(folder / ARTEFACT)(*map(torch.from_numpy, inputs.values()))

    expected = sample.answers(inputs)
    answers = (answer,) if isinstance(answer, torch.Tensor) else answer
    assert len(answers) == len(expected)
    for tensor, array in zip(answers, expected.values(), strict=True):
        np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=1e-5, atol=1e-6)


@cells
def test_it_holds_no_source_locations(sample: Sample, exported: Export) -> None:
    with zipfile.ZipFile(exported(sample, "torchscript").package_dir / ARTEFACT) as archive:
        names = archive.namelist()
        code = b"".join(archive.read(name) for name in names)

    assert not [name for name in names if "debug_pkl" in name or "traced_inputs" in name]
    assert b"site-packages" not in code
    assert b"/exporters/" not in code


def test_equal_inputs_give_equal_bytes_here_and_elsewhere(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The default and other samples: tests/exporters/test_contract.py."""
    source = checkpoint("conv-pt2")
    every = {
        "freeze": {"freeze": True},
        "trace": {"method": "trace"},
        "mobile": {"optimize_for_mobile": True},
    }

    def requests(turn: str) -> list[ExportRequest]:
        return [
            ExportRequest(source, tmp_path / turn / name, "torchscript", options)
            for name, options in every.items()
        ]

    for turn in ("a", "b"):
        assert {run(request).verdict for request in requests(turn)} == {"verified"}
    export_elsewhere(requests("c"))

    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_a_dynamic_axis_stays_one_where_a_trace_would_lose_it(tmp_path: Path) -> None:
    source = save_program(Reshaping(), 8, tmp_path / "model.pt2")

    result = run(ExportRequest(source, tmp_path / "out", "torchscript"))

    assert (result.verdict, result.converter) == ("verified", "compiled")
    outputs = runners.load(tmp_path / "out").outputs
    assert [spec.shape for spec in outputs] == [("2*batch", 4), ("batch", 8)]
    with pytest.raises(VerificationFailed):
        run(ExportRequest(source, tmp_path / "traced", "torchscript", {"method": "trace"}))


def test_a_frozen_model_has_no_parameters_left(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    sources = [checkpoint("conv-pt2"), checkpoint("conv-torchscript")]
    shapes = {"inputs": [{"name": "image", "shape": ["batch", 1, 8, 8]}]}
    for number, source in enumerate(sources):
        options = {"freeze": True, **(shapes if number else {})}
        result = run(ExportRequest(source, tmp_path / str(number), "torchscript", options))

        assert result.verdict == "verified"
        assert not list(torch.jit.load(result.package_dir / ARTEFACT).parameters())


def test_mobile_interpreters_find_their_bytecode(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    from torch.jit.mobile import _load_for_lite_interpreter

    options = {"optimize_for_mobile": True}
    run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "out", "torchscript", options))

    module = _load_for_lite_interpreter(str(tmp_path / "out" / ARTEFACT))

    assert module(torch.zeros(3, 6)).shape == (3, 3)


def test_torchscript_cannot_be_traced_again(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"method": "trace", "inputs": [{"shape": ["batch", 1, 8, 8]}]}

    with pytest.raises(UnsupportedOption, match="Remove the option method") as caught:
        run(ExportRequest(checkpoint("conv-torchscript"), tmp_path / "out", "torchscript", options))

    assert caught.value.allowed == ["script"]


@pytest.mark.parametrize(
    ("options", "allowed"),
    [({"method": "magic"}, ["script", "trace"]), ({"optimise": True}, "optimize_for_mobile")],
    ids=["value", "name"],
)
def test_what_is_not_offered_is_refused_with_what_is(options: dict, allowed: object) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.specification("torchscript").validate(options)

    offered = caught.value.allowed
    assert offered["allowed"] == allowed if isinstance(offered, dict) else allowed in offered


def test_a_model_that_torchscript_cannot_express_says_why(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    source = save_program(Branching(), 4, tmp_path / "model.pt2")

    with pytest.raises(ConversionFailed, match="cannot create TorchScript") as caught:
        run(ExportRequest(source, tmp_path / "out", "torchscript", {"method": "script"}))

    assert [entry["converter"] for entry in caught.value.details["converters_tried"]] == ["compiled"]


@pytest.mark.parametrize("format_name", ["torchscript", "pt2", "pytorch"])
def test_a_wrong_input_is_named_and_threads_do_not_mix(format_name: str, exported: Export) -> None:
    reader = next(sample for sample in SAMPLES if sample.id == "reader-pt2")
    runner = runners.load(exported(reader, format_name).package_dir, threads=2)
    scale = np.ones((1, 1), np.float32)

    with pytest.raises(runners.InputError, match="The inputs must be 'scale', 'tokens', not 'scale'"):
        runner.predict({"scale": scale})
    with pytest.raises(runners.InputError, match="must be int64, not float32"):
        runner.predict({"tokens": np.ones((1, 3), np.float32), "scale": scale})
    with pytest.raises(runners.InputError):
        runner.predict({"tokens": np.full((1, 3), 5000), "scale": scale})

    tokens = [np.full((2, 4), number) for number in range(8)]
    scale = np.ones((2, 1), np.float32)
    alone = [runner.predict({"tokens": each, "scale": scale})["scores"] for each in tokens]
    together: dict[int, object] = {}

    def ask(number: int) -> None:
        for _ in range(5):
            together[number] = runner.predict({"tokens": tokens[number], "scale": scale})["scores"]
        together[-1 - number] = torch.get_num_threads()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        np.testing.assert_array_equal(together[number], expected)
        assert together[-1 - number] == 2


def test_an_archive_that_no_export_made_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Reshaping()), tmp_path / "model.pt")

    with pytest.raises(ValueError, match=r"interface\.json"):
        runners.open_artefact("torchscript", tmp_path / "model.pt")


def test_a_hostile_artefact_is_refused_before_it_runs(exported: Export, tmp_path: Path) -> None:
    """A package may come from anywhere."""
    whole = exported(SAMPLES[0], "torchscript").package_dir / ARTEFACT
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "model.pt", "w") as hostile:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".py"):
                content = content.replace(b"torch.relu", b"torch.empty_like")
            hostile.writestr(name, content)

    with pytest.raises(UnsafeCheckpoint, match="aten::empty_like"):
        runners.open_artefact("torchscript", tmp_path / "model.pt")


def test_axes_of_outputs_that_follow_an_input_are_found_by_asking(tmp_path: Path) -> None:
    class Padding(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"same": x * 2, "double": torch.cat([x, x], 1), "mean": x.mean(1)}

    torch.jit.save(torch.jit.script(Padding()), tmp_path / "model.pt")
    options = {"inputs": [{"shape": ["batch", "length"]}]}

    run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "torchscript", options))

    shapes = {spec.name: spec.shape for spec in runners.load(tmp_path / "out").outputs}
    assert shapes == {"same": ("batch", "length"), "double": ("batch", "double_dim_1"), "mean": ("batch",)}


def test_metadata_tells_the_converter(exported: Export) -> None:
    document = json.loads((exported(SAMPLES[0], "torchscript").package_dir / "metadata.json").read_bytes())

    assert document["artefact"]["files"] == [ARTEFACT]
    assert document["artefact"]["converter"] == "compiled"
