"""Edge packages: every file, code that compiles or parses, and a model inside that answers as its source."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporters import package, runners
from exporters.delivery import edge
from exporters.delivery.errors import DeliveryError
from exporters.proof import golden
from tests.exporters.wrappers.test_cpp import package_folder
from tests.exporters.wrappers.test_kotlin import STUBS as WRAPPER_STUBS
from tests.exporters.wrappers.test_kotlin import compiler
from tests.exporters.wrappers.test_swift import parsed

from .conftest import CLASSES, Packages, unpacked

ANDROID = {"ModelWrapper.kt", "Processing.kt", "MainActivity.kt", "AndroidManifest.xml"}
ANDROID |= {"build.gradle", "settings.gradle"}
IOS = {"ModelWrapper.swift", "Processing.swift", "ViewController.swift", "Package.swift"}
STUBS = Path(__file__).parent / "stubs/java"


@pytest.fixture(scope="module")
def both(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    edge.write(folder / "both.zip", "both", {"ios": packages("coreml"), "android": packages("tflite")})
    return unpacked(folder / "both.zip", folder / "both")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_package_for_phones_has_what_both_need(both: Path) -> None:
    assert {"model.tflite", "model.mlpackage", "labels.txt", "metadata.json", "README.md"} <= names(both)
    assert names(both / "sample_code/android") == ANDROID
    assert names(both / "sample_code/ios") == IOS
    assert (both / "labels.txt").read_text().splitlines() == CLASSES
    platforms = json.loads((both / "metadata.json").read_bytes())["platforms"]
    assert json.loads((both / platforms["ios"]).read_bytes())["model_info"]["export_format"] == "coreml"
    assert json.loads((both / platforms["android"]).read_bytes())["model_info"]["export_format"] == "tflite"


def test_the_readme_says_what_was_run(both: Path) -> None:
    readme = (both / "README.md").read_text()

    assert readme.startswith("# pets v3: tflite\n")
    assert "iOS: **the artefact was converted and not executed**" in readme
    assert "Android: the artefact ran where it was exported" in readme
    named = re.findall(r"`((?:\w+/)?(?:labels\.txt|\w+\.json|golden\.npz))`", readme)
    assert {"android/golden.npz", "ios/golden.npz", "labels.txt", "android/metadata.json"} <= set(named)
    assert all((both / name).is_file() for name in set(named))
    assert "runtimes/" not in readme.replace("runtimes/python/model", "")  # the wrappers are in sample_code


@pytest.mark.parametrize("target", ["ios", "android"])
def test_a_package_for_one_phone(target: str, packages: Packages, tmp_path: Path) -> None:
    format_name = {"ios": "coreml", "android": "tflite"}[target]

    edge.write(tmp_path / "one.zip", target, {target: packages(format_name)})  # type: ignore[arg-type]

    folder = unpacked(tmp_path / "one.zip", tmp_path / "one")
    assert names(folder / "sample_code") == {target}
    metadata = json.loads((folder / "metadata.json").read_bytes())
    assert metadata["model_info"]["export_format"] == format_name
    assert all((folder / file).is_file() for file in metadata["artefact"]["files"])
    assert (folder / "labels.txt").read_text().splitlines() == CLASSES


def test_one_export_for_both_is_there_once(packages: Packages, tmp_path: Path) -> None:
    edge.write(tmp_path / "same.zip", "both", dict.fromkeys(("ios", "android"), packages("onnx")))

    folder = unpacked(tmp_path / "same.zip", tmp_path / "same")
    assert not {"ios", "android"} & names(folder)
    assert (folder / "README.md").read_text().count("# pets v3") == 1


def test_two_models_of_one_name_are_kept_apart(packages: Packages, tensors: Path, tmp_path: Path) -> None:
    edge.write(tmp_path / "two.zip", "both", {"ios": packages("onnx"), "android": tensors})

    folder = unpacked(tmp_path / "two.zip", tmp_path / "two")
    assert not (folder / "model.onnx").exists()
    for platform in ("ios", "android"):
        runner = runners.open_artefact("onnx", folder / platform / "model.onnx")
        assert golden.replay(folder / platform, runner) == []
    assert "from('../../android/')" in (folder / "sample_code/android/build.gradle").read_text()


def test_the_model_inside_replays_its_golden_inputs(both: Path) -> None:
    runner = runners.open_artefact("tflite", both / "model.tflite")

    assert golden.replay(both / "android", runner) == []


def test_the_swift_code_parses(both: Path, packages: Packages, tensors: Path, tmp_path: Path) -> None:
    edge.write(tmp_path / "tensors.zip", "ios", {"ios": tensors})
    edge.write(tmp_path / "images.zip", "ios", {"ios": packages("tflite")})
    folders = [both, *(unpacked(tmp_path / f"{name}.zip", tmp_path / name) for name in ("tensors", "images"))]

    for folder in folders:
        files = sorted((folder / "sample_code/ios").glob("*.swift"))
        assert len(files) >= 3
        for file in files:
            parsed(file.read_bytes())


@pytest.mark.timeout(900)  # one compilation: 20 s of a core that is not shared
def test_the_kotlin_code_compiles(both: Path, tensors: Path, tmp_path: Path) -> None:
    command, _ = compiler()
    edge.write(tmp_path / "tensors.zip", "android", {"android": tensors})
    sources = []
    for number, folder in enumerate((both, unpacked(tmp_path / "tensors.zip", tmp_path / "tensors"))):
        for file in (folder / "sample_code/android").glob("*.kt"):
            target = tmp_path / str(number) / file.name
            target.parent.mkdir(exist_ok=True)
            target.write_text(file.read_text().replace("package model\n", f"package model{number}\n"))
            sources.append(str(target))

    done = subprocess.run(
        [*command, "-Werror", *sources, str(STUBS), str(WRAPPER_STUBS), "-d", str(tmp_path / "classes")],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[:4000]


def test_a_board_checks_itself_with_the_python_code(packages: Packages, tmp_path: Path) -> None:
    edge.write(tmp_path / "board.zip", "linux-arm64", {"linux-arm64": packages("onnx")})
    folder = unpacked(tmp_path / "board.zip", tmp_path / "board")

    assert names(folder / "runtimes") == {"cpp", "python"}
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "runtimes/python/model_wrapper.py"), "--verify"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stdout) == (0, "manifest: passed\nreplay: passed\n"), done.stderr


@pytest.mark.timeout(300)
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="there is no cmake or no g++")
def test_a_board_builds_and_runs_the_cpp_code(packages: Packages, tmp_path: Path) -> None:
    runtime = package_folder("openvino")
    edge.write(tmp_path / "board.zip", "linux-arm64", {"linux-arm64": packages("openvino")})
    folder, build = unpacked(tmp_path / "board.zip", tmp_path / "board"), tmp_path / "build"

    for command in (
        [
            "cmake",
            "-S",
            folder,
            "-B",
            build,
            f"-DOpenVINO_DIR={runtime / 'cmake'}",
            "-DCMAKE_BUILD_TYPE=Debug",
        ],
        ["cmake", "--build", build],
        ["ctest", "--test-dir", build, "--no-tests=error"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    package.verify(folder)  # nothing was built into it


def test_equal_packages_give_equal_bytes(packages: Packages, tmp_path: Path) -> None:
    for name in ("one", "two"):
        edge.write(tmp_path / name, "android", {"android": packages("tflite")})

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("target", "platform", "format_name", "message"),
    [
        ("ios", "ios", "openvino", "needs an export with a Swift wrapper.*Export coreml or onnx"),
        ("android", "android", "coreml", "needs an export with a Kotlin wrapper.*Export onnx or tflite"),
        ("linux-arm64", "linux-arm64", "coreml", r"needs an export with a C\+\+ wrapper"),
        ("both", "ios", "onnx", "The target both needs an export for android"),
        ("watch", "watch", "onnx", "'watch' is not a target. Choose one of ios, android, both, linux-arm64"),
    ],
)
def test_a_target_that_the_export_does_not_fit(
    target: str, platform: str, format_name: str, message: str, packages: Packages, tmp_path: Path
) -> None:
    with pytest.raises(DeliveryError, match=message):
        edge.write(tmp_path / "out.zip", target, {platform: packages(format_name)})  # type: ignore[arg-type]

    assert not (tmp_path / "out.zip").exists()


def rewritten(source: Path, target: Path, name: str, data: bytes) -> Path:
    """The package with another content of one file."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for each in archive.namelist():
            copy.writestr(each, data if each == name else archive.read(each))
    return target


def test_a_damaged_package_is_not_delivered(packages: Packages, tmp_path: Path) -> None:
    wrong = rewritten(packages("tflite"), tmp_path / "wrong.zip", "labels.txt", b"cat\ndog\nfish\n")

    with pytest.raises(DeliveryError, match=r"labels\.txt does not match the package's manifest"):
        edge.write(tmp_path / "out.zip", "android", {"android": wrong})

    assert not (tmp_path / "out.zip").exists()
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DeliveryError, match="not a readable zip"):
        edge.write(tmp_path / "out.zip", "android", {"android": tmp_path / "text.zip"})


def test_a_failed_export_is_not_delivered(packages: Packages, tmp_path: Path) -> None:
    failed = rewritten(
        packages("tflite"), tmp_path / "failed.zip", "fidelity.json", b'{"verdict": "failed", "probes": {}}'
    )

    with pytest.raises(DeliveryError, match="A failed export is not delivered"):
        edge.write(tmp_path / "out.zip", "android", {"android": failed})
