"""What every format has to do with every kind of source."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import golden, package, registry, runners
from exporters.base import ExportRequest
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption

from .conftest import Export
from .models import SAMPLES, ConvNet, Mlp, Sample

FORMATS = [spec.name for spec in registry.specifications()]
cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
formats = pytest.mark.parametrize("format_name", FORMATS)


@cells
def test_the_artefact_has_the_inputs_and_outputs_of_its_source(sample: Sample, exported: Export) -> None:
    runner = runners.load(exported(sample).package_dir)

    assert {spec.name: list(spec.shape) for spec in runner.inputs} == sample.shapes
    assert {spec.name: list(spec.shape) for spec in runner.outputs} == sample.outputs
    dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in sample.inputs()]
    assert [spec.dtype for spec in runner.inputs] == dtypes


@cells
def test_it_is_verified_at_two_sizes_of_every_dynamic_axis(sample: Sample, exported: Export) -> None:
    result = exported(sample)

    assert result.verdict == "verified"
    for name, shape in sample.shapes.items():
        for axis, size in enumerate(shape):
            seen = {case["input_shapes"][name][axis] for case in result.fidelity["cases"]}
            assert len(seen) >= 2 if isinstance(size, str) else seen == {size}


@cells
def test_it_answers_what_the_source_answers(sample: Sample, exported: Export) -> None:
    """Against the model itself, not against what the export says of it."""
    torch.manual_seed(0)
    model, inputs = sample.build().eval(), sample.inputs()
    runner = runners.load(exported(sample).package_dir)

    with torch.no_grad():
        expected = model(*inputs)
    actual = runner.predict(
        {spec.name: tensor.numpy() for spec, tensor in zip(runner.inputs, inputs, strict=True)}
    )

    expected = expected if isinstance(expected, dict) else {"output": expected}
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_allclose(actual[name], tensor.numpy(), rtol=1e-4, atol=1e-5)


@cells
def test_metadata_says_what_goes_in_and_what_comes_out(sample: Sample, exported: Export) -> None:
    document = json.loads((exported(sample).package_dir / "metadata.json").read_bytes())

    assert {spec["name"]: spec["shape"] for spec in document["input_specs"]} == sample.shapes
    assert {name: spec["shape"] for name, spec in document["output_spec"].items()} == sample.outputs
    fixed = sample.id == "fixed-pt2"
    assert document["batch"] == {"dynamic": not fixed, "size": 2 if fixed else None}


@cells
def test_the_package_is_whole(sample: Sample, exported: Export) -> None:
    folder = exported(sample).package_dir

    assert {"model.onnx", "metadata.json", "fidelity.json", "golden.npz", "README.md"} < set(
        package.verify(folder).files
    )


@cells
def test_the_generated_wrapper_replays_the_golden_inputs(
    sample: Sample, exported: Export, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    shutil.copytree(exported(sample).package_dir, folder)
    wrapper = [sys.executable, "-B", str(folder / "runtimes/python/model_wrapper.py"), "--replay"]

    assert subprocess.run(wrapper, capture_output=True).returncode == 0

    case = golden.read(folder / "golden.npz")
    wrong = {name: array + 1 for name, array in case.expected.items()}
    golden.write(folder / "golden.npz", type(case)("wrong", case.inputs, wrong))
    assert subprocess.run(wrapper, capture_output=True).returncode == 1


def test_the_generated_example_runs_and_leaves_the_package_whole(exported: Export, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(exported(SAMPLES[0]).package_dir, folder)

    done = subprocess.run(
        [sys.executable, str(folder / "runtimes/python/example.py")], capture_output=True, text=True
    )

    assert done.stdout.split() == ["output", "float32", "(3,", "10)"]
    package.verify(folder)


@cells
def test_equal_inputs_give_equal_bytes_in_another_process(
    sample: Sample,
    checkpoint: Callable[[str], Path],
    exported: Export,
    exporters_cli: Callable,
    tmp_path: Path,
) -> None:
    options = [f"--option={name}={json.dumps(value)}" for name, value in sample.options.items()]

    done = exporters_cli(
        "convert", checkpoint(sample.id), "--to", "onnx", "--out", tmp_path / "again", *options
    )

    assert done.returncode == 0, done.stderr
    package.pack(exported(sample).package_dir, tmp_path / "first.zip")
    package.pack(tmp_path / "again", tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@cells
def test_the_artefact_names_nobodys_files(sample: Sample, exported: Export) -> None:
    data = (exported(sample).package_dir / "model.onnx").read_bytes()

    assert b"models.py" not in data
    assert b"site-packages" not in data


@formats
@pytest.mark.parametrize(
    "options",
    [{"no_such_option": 1}, {"opset_version": 5}, {"opset_version": "18"}, {"optimize": 1}],
    ids=["unknown", "out of range", "wrong type", "number for boolean"],
)
def test_an_unsupported_option_is_refused_with_what_is_allowed(format_name: str, options: dict) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.specification(format_name).validate(options)

    assert caught.value.allowed
    assert next(iter(options)) in caught.value.message


def test_an_unknown_format_is_refused_with_the_list() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.routes("punch-cards", "program")

    assert caught.value.allowed == FORMATS


def test_two_formats_with_one_name_are_refused() -> None:
    module = "exporters.formats.torch_to_onnx"

    with pytest.raises(ValueError, match="another exporter does already"):
        registry.load((module, module))


@formats
def test_specifications_are_read_without_a_framework(format_name: str) -> None:
    code = (
        "import sys; from exporters import registry; registry.specifications();"
        "assert not {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_an_axis_that_the_program_fixed_cannot_be_made_dynamic(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {"dynamic_axes": {"image": [0, 2]}}

    with pytest.raises(UnsupportedOption, match="Axis 2 of 'image' is fixed") as caught:
        run(ExportRequest(checkpoint("conv-pt2"), tmp_path / "out", "onnx", options=options))

    assert caught.value.allowed == {"image": [0]}
    assert not (tmp_path / "out").exists()


def test_torchscript_without_shapes_asks_for_them(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match=r"does not record the shapes of its inputs .image."):
        run(ExportRequest(checkpoint("conv-torchscript"), tmp_path / "out", "onnx"))


def test_an_opset_that_dynamo_cannot_reach_is_made_by_the_other_exporter(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    request = ExportRequest(checkpoint("reader-pt2"), tmp_path / "out", "onnx", options={"opset_version": 17})

    result = run(request)

    assert result.converter == "torchscript"
    assert [entry["converter"] for entry in result.fidelity["converters_tried"]] == ["dynamo", "torchscript"]
    assert json.loads((tmp_path / "out/metadata.json").read_bytes())["artefact"]["opset_version"] == 17


@pytest.mark.parametrize(
    ("kind", "error"),
    [("empty", InvalidSource), ("text", InvalidSource), ("cut", InvalidSource), ("pickle", UnsafeCheckpoint)],
)
def test_a_file_that_is_no_model_says_what_to_do(
    kind: str, error: type[Exception], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = checkpoint("conv-pt2").read_bytes()
    contents = {
        "empty": b"",
        "text": b"import torch\n" * 100,
        "cut": whole[: len(whole) // 2],
        "pickle": b"\x80\x04cos\nsystem\n.",
    }
    source = tmp_path / "model.pt2"
    source.write_bytes(contents[kind])

    with pytest.raises(error, match=r"Save it again"):
        run(ExportRequest(source, tmp_path / "out", "onnx"))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["model", "weights"])
def test_an_eager_checkpoint_is_not_unpickled(content: str, tmp_path: Path) -> None:
    model = ConvNet()
    torch.save(model if content == "model" else model.state_dict(), tmp_path / "model.pt")

    with pytest.raises(UnsafeCheckpoint, match=r"torch\.export\.save"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "onnx"))


def test_a_program_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Mlp().train(), (torch.randn(2, 6),)), tmp_path / "model.pt2")

    with pytest.raises(InvalidSource, match=r"model\.eval\(\)"):
        run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "onnx"))
