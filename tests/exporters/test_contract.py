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

from exporters import package, registry, runners
from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption
from exporters.proof import golden
from exporters.request import ExportRequest

from .conftest import Export
from .models import FORMAT_OPTIONS, SAMPLES, ConvNet, Mlp, Sample, options_of
from .reproducible import contents

FORMATS = [spec.name for spec in registry.specifications()]
# Runtimes whose shapes are fixed when the artefact is made.
FIXED = {spec.name for spec in registry.specifications() if spec.fixes_sizes}
CELLS = [(name, sample) for name in FORMATS for sample in SAMPLES if sample.kind in registry.kinds(name)]
cells = pytest.mark.parametrize(
    ("format_name", "sample"), CELLS, ids=[f"{sample.id}-{name}" for name, sample in CELLS]
)
formats = pytest.mark.parametrize("format_name", FORMATS)


@cells
def test_the_artefact_has_the_inputs_and_outputs_of_its_source(
    format_name: str, sample: Sample, exported: Export
) -> None:
    document = json.loads((exported(sample, format_name).package_dir / "metadata.json").read_bytes())

    given = {spec["name"]: spec["shape"] for spec in document["input_specs"]}
    answered = {name: spec["shape"] for name, spec in document["output_spec"].items()}
    assert fits(given, sample.shapes, format_name)
    assert fits(answered, sample.outputs, format_name)
    assert [spec["dtype"] for spec in document["input_specs"]] == sample.dtypes


def fits(found: dict[str, list[int | str]], wanted: dict[str, list[int | str]], format_name: str) -> bool:
    """The same names and shapes, but for axes that the format has to fix."""
    return list(found) == list(wanted) and all(
        len(shape) == len(found[name])
        and all(
            have == want or (format_name in FIXED and isinstance(have, int) and isinstance(want, str))
            for have, want in zip(found[name], shape, strict=True)
        )
        for name, shape in wanted.items()
    )


@cells
def test_what_runs_here_is_verified_and_nothing_else(
    format_name: str, sample: Sample, exported: Export
) -> None:
    result = exported(sample, format_name)

    try:
        runner = runners.load(result.package_dir)
    except runners.NotExecutable:
        assert result.verdict == "converted_not_executed"
        assert registry.specification(format_name).runs_on
        return
    assert result.verdict == "verified"
    dynamic = {spec.name: [isinstance(size, str) for size in spec.shape] for spec in runner.inputs}
    for name, axes in dynamic.items():
        for axis, is_dynamic in enumerate(axes):
            seen = {case["input_shapes"][name][axis] for case in result.fidelity["cases"]}
            assert len(seen) >= 2 if is_dynamic else len(seen) == 1


@cells
def test_it_answers_what_the_source_answers(format_name: str, sample: Sample, exported: Export) -> None:
    """Against the model itself, not against what the export says of it."""
    folder = exported(sample, format_name).package_dir
    try:
        runner = runners.load(folder)
    except runners.NotExecutable:
        return
    inputs = sample.arrays(rows=golden_rows(folder))

    actual = runner.predict(inputs)

    expected = sample.answers(inputs)
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-5)


def golden_rows(folder: Path) -> int:
    """The batch that the package was proven with: the only one that some artefacts take."""
    return next(iter(golden.read(folder / "golden.npz").inputs.values())).shape[0]


@cells
def test_the_package_is_whole(format_name: str, sample: Sample, exported: Export) -> None:
    result = exported(sample, format_name)

    files = set(package.verify(result.package_dir).files)
    assert {result.artefact, "metadata.json", "fidelity.json", "golden.npz", "README.md"} <= files


@cells
def test_the_generated_wrapper_replays_the_golden_inputs(
    format_name: str, sample: Sample, exported: Export, tmp_path: Path
) -> None:
    result = exported(sample, format_name)
    if result.verdict != "verified":
        return
    folder = tmp_path / "package"
    shutil.copytree(result.package_dir, folder)
    wrapper = [sys.executable, "-B", str(folder / "runtimes/python/model_wrapper.py"), "--replay"]

    done = subprocess.run(wrapper, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

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


@pytest.fixture(scope="session")
def made_again(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every cell exported in one other process: a folder of folders named FORMAT-SAMPLE."""
    folder = tmp_path_factory.mktemp("again")
    requests = [
        ExportRequest(
            checkpoint(sample.id), folder / f"{name}-{sample.id}", name, options_of(sample, name)
        ).to_json()
        for name, sample in CELLS
    ]
    code = (
        "import json, sys; from exporters.request import ExportRequest; from exporters.convert import run\n"
        "for request in json.load(sys.stdin): run(ExportRequest.from_json(request))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@cells
def test_equal_inputs_give_equal_bytes_in_another_process(
    format_name: str, sample: Sample, exported: Export, made_again: Path
) -> None:
    again = made_again / f"{format_name}-{sample.id}"

    assert contents(exported(sample, format_name).package_dir) == contents(again)


@cells
def test_what_is_verified_says_how_fast_it_is_and_on_which_hardware(
    format_name: str, sample: Sample, exported: Export
) -> None:
    result = exported(sample, format_name)
    performance = json.loads((result.package_dir / "metadata.json").read_bytes())["performance"]

    size_bytes = {"model_size_bytes": result.artefact_size_bytes}
    assert performance == {**size_bytes, **result.performance}
    if result.verdict != "verified":
        assert performance == size_bytes
        return
    assert performance["inference_latency_ms"] > 0
    assert performance["throughput_fps"] > 0
    assert performance["hardware"].endswith(("core", "cores"))
    assert performance["batch_size"] >= 1


@cells
def test_the_package_names_nobodys_files(format_name: str, sample: Sample, exported: Export) -> None:
    folder = exported(sample, format_name).package_dir

    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for name in (b"tests/exporters", b"site-packages", str(Path.home()).encode() + b"/"):
                assert name not in data, path


@formats
def test_an_unsupported_option_is_refused_with_what_is_allowed(format_name: str) -> None:
    specification = registry.specification(format_name)
    wrong: dict[str, object] = {"no_such_option": 1}
    for name, option in specification.options.items():
        wrong[name] = 1.5 if option.allowed is None else "no such value"
    for name, value in wrong.items():
        with pytest.raises(UnsupportedOption) as caught:
            specification.validate({name: value})
        assert caught.value.allowed
        assert name in caught.value.message


def test_an_unknown_format_is_refused_with_the_list() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.routes("punch-cards", "program")

    assert caught.value.allowed == FORMATS


def test_two_formats_with_one_name_are_refused() -> None:
    module = "exporters.formats.torch_to_onnx"

    with pytest.raises(ValueError, match="another exporter does so already"):
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


@formats
@pytest.mark.parametrize(
    ("kind", "error"),
    [("empty", InvalidSource), ("text", InvalidSource), ("cut", InvalidSource), ("pickle", UnsafeCheckpoint)],
)
def test_a_file_that_is_no_model_says_what_to_do(
    format_name: str,
    kind: str,
    error: type[Exception],
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
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

    with pytest.raises(error, match=r"Save it (again|with)"):
        run(ExportRequest(source, tmp_path / "out", format_name, FORMAT_OPTIONS.get(format_name, {})))

    assert not (tmp_path / "out").exists()


def test_an_eager_checkpoint_is_not_unpickled(tmp_path: Path) -> None:
    torch.save(ConvNet(), tmp_path / "model.pt")

    with pytest.raises(UnsafeCheckpoint, match=r"torch\.export\.save"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "onnx"))


def test_a_program_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Mlp().train(), (torch.randn(2, 6),)), tmp_path / "model.pt2")

    with pytest.raises(InvalidSource, match=r"model\.eval\(\)"):
        run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "onnx"))
