"""The C++ wrappers, compiled and run: their processing against numpy's, their replay against the source."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exporters import wrappers
from exporters.convert import run
from exporters.request import ExportRequest

from .declarations import DECLARATIONS, LABELS, Declaration
from .detector import CLASSES, POSTPROCESSING, PREPROCESSING, Detector, save
from .probing import check_prepared, check_read, numbers_of

COMPILER = shutil.which("g++")
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wshadow")
VERSIONS = {"onnxruntime": "1.31.1", "numpy": "2.2"}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++")


def package_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{module} is not installed")
    return Path(spec.origin).parent


def compiled(folder: Path, *arguments: str | Path) -> Path:
    """The program made of these files and options. Its compiler's words are the failure's."""
    target = folder / "program"
    done = subprocess.run(
        ["g++", *STRICT, *map(str, arguments), "-o", str(target)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:4000]
    return target


@pytest.fixture(scope="module", params=DECLARATIONS, ids=lambda one: one.id)
def probe(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Declaration, Path]:
    declaration: Declaration = request.param
    folder = tmp_path_factory.mktemp("probe")
    wrappers.write(folder, declaration.metadata("openvino"), VERSIONS)
    source = folder / "runtimes/cpp"
    flags = ["-DIMAGE", *(["-DDETECTOR"] if declaration.detects else []), f"-I{source}"]
    return declaration, compiled(
        folder, *flags, source / "processing.cpp", Path(__file__).parent / "probe.cpp"
    )


def test_it_processes_as_numpy(probe: tuple[Declaration, Path]) -> None:
    declaration, program = probe

    prepared = subprocess.run(
        [program, "preprocess", *map(str, declaration.pixels)],
        input=declaration.photo().tobytes(),
        capture_output=True,
    )
    read = subprocess.run(
        [program, "postprocess", *numbers_of(declaration)],
        input=np.ascontiguousarray(declaration.raw()).tobytes(),
        capture_output=True,
    )

    check_prepared(declaration, prepared.stdout, prepared.stderr.decode())
    check_read(declaration, read.stdout.decode())


def test_a_label_stays_a_label(tmp_path: Path) -> None:
    wrappers.write(tmp_path, DECLARATIONS[0].metadata("onnx"), VERSIONS)

    text = (tmp_path / "runtimes/cpp/processing.cpp").read_text()

    assert '"do\\042g"' in text
    assert '"C:\\134new\\077\\077/"' in text
    assert text.isascii()


def onnx_flags(folder: Path) -> list[str]:
    folders = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include"]
    include = next((one for one in folders if one and (Path(one) / "onnxruntime_cxx_api.h").is_file()), None)
    if include is None:
        pytest.skip(
            "onnxruntime's C++ headers are not in its wheel: libonnxruntime-dev, or ONNXRUNTIME_INCLUDE"
        )
    library = folder / "libonnxruntime.so.1"  # what the loader looks for; the wheel's file is .so.1.x.y
    library.symlink_to(next((package_folder("onnxruntime") / "capi").glob("libonnxruntime.so.*")))
    return ["-isystem", include, f"-Wl,-rpath,{folder}", str(library)]


def openvino_flags(folder: Path) -> list[str]:
    wheel = package_folder("openvino")
    library = next((wheel / "libs").glob("libopenvino.so.*"))
    return ["-isystem", str(wheel / "include"), f"-Wl,-rpath,{wheel / 'libs'}", str(library)]


def torch_flags(folder: Path) -> list[str]:
    wheel = package_folder("torch")
    includes = [wheel / "include", wheel / "include/torch/csrc/api/include"]
    return [
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(word for include in includes for word in ("-isystem", str(include))),
        f"-L{wheel / 'lib'}",
        f"-Wl,-rpath,{wheel / 'lib'},--no-as-needed",
        "-ltorch",
        "-ltorch_cpu",
        "-lc10",
    ]


FLAGS = {"onnx": onnx_flags, "openvino": openvino_flags, "torchscript": torch_flags}


@pytest.mark.timeout(900)  # LibTorch's headers alone are 15 s of a core that is not shared
@pytest.mark.parametrize("format_name", FLAGS)
def test_a_package_replays_in_cpp(
    format_name: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    flags = FLAGS[format_name](tmp_path)
    package = run(
        ExportRequest(checkpoint("reader-pt2"), tmp_path / "package", format_name, classes=LABELS[:4])
    ).package_dir
    sources = [package / "runtimes/cpp" / name for name in ("model_wrapper.cpp", "replay.cpp")]

    program = compiled(tmp_path, *sources, package / "runtimes/cpp/processing.cpp", *flags)
    whole = subprocess.run([program, "--replay", "--package", package], capture_output=True, text=True)
    golden = dict(np.load(package / "golden.npz"))
    golden["output:scores"] = np.asfortranarray(golden["output:scores"])
    np.savez(package / "golden.npz", **golden)
    column_major = subprocess.run([program, "--replay", "--package", package], capture_output=True, text=True)
    golden["output:scores"][0, 0] += 0.01
    np.savez(package / "golden.npz", **golden)
    changed = subprocess.run([program, "--replay", "--package", package], capture_output=True, text=True)
    golden["input:scale"] = golden["input:scale"][:, :, None]
    np.savez(package / "golden.npz", **golden)
    refused = subprocess.run([program, "--replay", "--package", package], capture_output=True, text=True)

    assert (whole.returncode, whole.stdout) == (0, "replay: passed\n"), whole.stderr
    assert column_major.returncode == 0
    assert (changed.returncode, changed.stdout) == (1, "replay: failed\n")
    assert changed.stderr == "scores: differs from the original model\n"
    assert refused.returncode == 2
    assert "scale has another dtype or shape" in refused.stderr


@pytest.mark.parametrize("format_name", ["onnx", "tflite", "tensorrt"])
def test_what_has_no_headers_here_compiles_against_its_documentation(
    format_name: str, tmp_path: Path
) -> None:
    wrappers.write(tmp_path, DECLARATIONS[0].metadata(format_name), VERSIONS)
    stubs = Path(__file__).parent / "stubs/cpp"
    sources = [tmp_path / f"runtimes/cpp/{name}.cpp" for name in ("model_wrapper", "example")]

    done = subprocess.run(
        ["g++", *STRICT, "-fsyntax-only", "-isystem", stubs, *sources], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[:4000]


def ran(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def configuration(source: Path, build: Path, *options: str) -> list[str | Path]:
    """CMake's command, which finds the runtime in the packages of this Python."""
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    return ["cmake", "-S", source, "-B", build, python, "-DCMAKE_BUILD_TYPE=Debug", *options]


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake")


@needs_cmake
@pytest.mark.timeout(900)  # LibTorch's headers
@pytest.mark.parametrize("format_name", ["openvino", "torchscript"])
def test_cmake_finds_the_runtime_of_python_and_builds_a_package(
    format_name: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    package_folder({"torchscript": "torch"}.get(format_name, format_name))
    package = run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "package", format_name)).package_dir
    build = tmp_path / "build"

    ran(*configuration(package / "runtimes/cpp", build, "-DFETCH_RUNTIME=OFF"))
    ran("cmake", "--build", build)
    ran("ctest", "--test-dir", build, "--no-tests=error")

    assert ran(build / "example", package) == "output: 9 values\n"


@needs_cmake
def test_a_picture_is_predicted_or_refused_with_a_sentence(tmp_path: Path) -> None:
    package_folder("openvino")
    torch.manual_seed(0)
    source = save(Detector().eval(), tmp_path / "model.pt2")
    declared: dict[str, Any] = {"preprocessing": PREPROCESSING, "postprocessing": POSTPROCESSING}
    package = run(
        ExportRequest(source, tmp_path / "package", "openvino", **declared, classes=CLASSES)
    ).package_dir
    build = tmp_path / "build"
    ran(*configuration(package / "runtimes/cpp", build))
    ran("cmake", "--build", build, "--target", "example")
    picture = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "image.ppm")
    Image.fromarray(picture).save(tmp_path / "image.png")
    python = [sys.executable, str(package / "runtimes/python/model_wrapper.py"), str(tmp_path / "image.png")]
    expected = json.loads(ran(*python))["predictions"]
    assert expected

    found = [
        line.rpartition(" ") for line in ran(build / "example", package, tmp_path / "image.ppm").splitlines()
    ]

    assert [name for name, _, _ in found] == [one["class"] for one in expected]
    assert [float(number) for _, _, number in found] == pytest.approx(
        [one["confidence"] for one in expected], abs=1e-4
    )
    for name, message in (("none.ppm", "cannot be read."), ("image.png", "is no binary PPM")):
        done = subprocess.run([build / "example", package, tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(str(tmp_path / name))
        assert message in done.stderr


@needs_cmake
def test_without_a_runtime_cmake_says_what_to_do(tmp_path: Path) -> None:
    wrappers.write(tmp_path, DECLARATIONS[0].metadata("onnx"), VERSIONS)

    done = subprocess.run(
        configuration(tmp_path / "runtimes/cpp", tmp_path / "build", "-DFETCH_RUNTIME=OFF"),
        capture_output=True,
        text=True,
    )

    if "onnxruntime_DIR" in done.stdout or done.returncode == 0:
        pytest.skip("onnxruntime is installed on this machine")
    assert "ONNX Runtime is not installed: pass -DCMAKE_PREFIX_PATH" in " ".join(done.stderr.split())


@needs_cmake
@pytest.mark.large  # downloads 60 MB
@pytest.mark.timeout(900)
def test_cmake_fetches_a_runtime(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    package = run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "package", "openvino")).package_dir
    build = tmp_path / "build"
    venv.create(tmp_path / "venv", with_pip=True)  # a Python without the runtime

    ran(*configuration(package / "runtimes/cpp", build, f"-DPython3_EXECUTABLE={tmp_path}/venv/bin/python3"))
    ran("cmake", "--build", build)
    ran("ctest", "--test-dir", build, "--no-tests=error")
