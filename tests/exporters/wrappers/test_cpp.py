"""The C++ wrappers, compiled and run: their processing against numpy's, their replay against the source."""

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from exporters import wrappers
from exporters.convert import run
from exporters.request import ExportRequest

from .declarations import DECLARATIONS, LABELS, Declaration
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
    import torch

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


@pytest.mark.parametrize("format_name", ["tflite", "tensorrt"])
def test_what_has_no_headers_here_compiles_against_its_documentation(
    format_name: str, tmp_path: Path
) -> None:
    wrappers.write(tmp_path, DECLARATIONS[0].metadata(format_name), VERSIONS)
    stubs = Path(__file__).parent / "stubs/cpp"

    done = subprocess.run(
        ["g++", *STRICT, "-fsyntax-only", "-isystem", stubs, tmp_path / "runtimes/cpp/model_wrapper.cpp"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[:4000]


def test_cmake_builds_a_package(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake")
    folder = package_folder("openvino")
    package = run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "package", "openvino")).package_dir
    source, build = package / "runtimes/cpp", tmp_path / "build"

    for command in (
        [
            "cmake",
            "-S",
            source,
            "-B",
            build,
            f"-DOpenVINO_DIR={folder / 'cmake'}",
            "-DCMAKE_BUILD_TYPE=Debug",
        ],
        ["cmake", "--build", build],
        ["ctest", "--test-dir", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
