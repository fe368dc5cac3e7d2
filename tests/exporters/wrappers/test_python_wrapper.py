"""The generated Python, run as its user runs it: alone, in a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from exporters import registry, runners, wrappers
from exporters.convert import run
from exporters.processing.declared import complete_postprocessing, complete_preprocessing
from exporters.processing.detect import detect
from exporters.processing.image import prepare
from exporters.request import ExportRequest

from .detector import CLASSES, POSTPROCESSING, PREPROCESSING, Detector, save

FORMATS = [
    name
    for name in sorted(wrappers.LANGUAGES["python"].formats & set(runners._RUNNERS))
    if not registry.why_unavailable(name) and "pt2" in registry.kinds(name)
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Detector().eval()


@pytest.fixture(scope="module")
def source(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model, tmp_path_factory.mktemp("wrapper") / "model.pt2")


@pytest.fixture(scope="module")
def verified(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX package: do not write into it."""
    folder = tmp_path_factory.mktemp("verified") / "package"
    classes = ["cat", "dog", "bird"]
    declared: dict[str, Any] = {"preprocessing": PREPROCESSING, "postprocessing": POSTPROCESSING}
    return run(ExportRequest(source, folder, "onnx", **declared, classes=classes)).package_dir


def _run(package: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Away from this project: not even its folder is on the path."""
    return subprocess.run(
        [sys.executable, "-I", str(package / "runtimes/python/model_wrapper.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=package.parent,
        timeout=120,
    )


@pytest.mark.parametrize("format_name", FORMATS)
def test_it_replays_and_predicts_what_the_model_predicts(
    format_name: str, model: nn.Module, source: Path, tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "image.png")
    embeds = registry.specification(format_name).embeds
    result = run(
        ExportRequest(
            source,
            tmp_path / "package",
            format_name,
            options={"embed_preprocessing": True} if embeds else {},
            preprocessing=PREPROCESSING,
            postprocessing=POSTPROCESSING,
            classes=CLASSES,
        )
    )

    if result.verdict == "converted_not_executed":  # Core ML, anywhere but on macOS
        wrapper = tmp_path / "package/runtimes/python/model_wrapper.py"
        compile(wrapper.read_text(), wrapper, "exec")
        return
    done = _run(tmp_path / "package", "--replay", tmp_path / "image.png")

    assert done.returncode == 0, done.stderr
    answer, verdict = done.stdout.splitlines()
    assert verdict == "replay: passed"
    before, after = complete_preprocessing(PREPROCESSING), complete_postprocessing(POSTPROCESSING)
    assert before is not None
    assert after is not None
    tensor, geometry = prepare(picture, before)
    with torch.no_grad():
        raw = model(torch.from_numpy(tensor)).numpy()
    (expected,) = detect(raw, [geometry], after, CLASSES)
    assert expected
    predictions = json.loads(answer)["predictions"]
    assert [one["class"] for one in predictions] == [one["class"] for one in expected]
    for one, other in zip(predictions, expected, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-2)
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)


def test_a_wrong_step_before_the_model_is_found_by_the_replay(source: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    run(ExportRequest(source, package, "onnx", preprocessing=PREPROCESSING))
    metadata = json.loads((package / "metadata.json").read_bytes())
    metadata["preprocessing"]["format"]["color_space"] = "BGR"
    (package / "metadata.json").write_text(json.dumps(metadata))

    done = _run(package, "--replay")

    assert done.returncode == 1
    assert "the preprocessed image" in done.stderr


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metadata.json", lambda text: text.replace('"dog"', '"wolf"'), "metadata.json differs from the"),
        (
            "labels.txt",
            lambda text: text.replace("dog", "wolf"),
            "labels.txt differs from the package's manifest",
        ),
        ("fidelity.json", None, "fidelity.json is missing"),
        ("notes.txt", lambda _: "mine", "notes.txt is not in the package's manifest"),
    ],
)
def test_verify_names_a_changed_file(
    file: str, change: Callable[[str], str] | None, message: str, verified: Path, tmp_path: Path
) -> None:
    package = shutil.copytree(verified, tmp_path / "package")
    path = package / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text() if path.exists() else ""))

    done = _run(package, "--verify")

    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_checks_files_and_answers(verified: Path) -> None:
    done = _run(verified, "--verify")

    assert (done.returncode, done.stdout) == (0, "manifest: passed\nreplay: passed\n"), done.stderr


def test_a_wrong_image_is_a_sentence(verified: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    for program in ("model_wrapper.py", "example.py"):
        for name, message in (("none.jpg", "No such file"), ("text.jpg", "")):
            done = subprocess.run(
                [sys.executable, str(verified / "runtimes/python" / program), str(tmp_path / name)],
                capture_output=True,
                text=True,
            )
            assert done.returncode != 0
            assert "Traceback" not in done.stderr
            assert message in done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_batch_of_any_size_goes_through_a_model_of_a_fixed_one(model: nn.Module, tmp_path: Path) -> None:
    fixed = torch.export.export(model, (torch.randn(2, 3, 32, 32),))
    torch.export.save(fixed, tmp_path / "model.pt2")
    package = tmp_path / "package"
    declared: dict[str, Any] = {"preprocessing": PREPROCESSING, "postprocessing": {"nms": {}}}
    run(ExportRequest(tmp_path / "model.pt2", package, "onnx", **declared))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import numpy as np; from model_wrapper import ModelWrapper;"
        "images = [np.full((9, 9, 3), value, np.uint8) for value in (0, 120, 255)];"
        "model = ModelWrapper(); assert model.predict(*images) == [model.predict(one) for one in images]"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(package / "runtimes/python")], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["classifier", "two classes by scores", "clusterer"])
def test_an_estimator_answers_as_it_does_in_its_library(kind: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 3))
    labels = np.where(rows[:, 0] > 0, "yes", "no")
    fitted: dict[str, Any] = {
        "classifier": lambda: LogisticRegression().fit(rows, labels),
        "two classes by scores": lambda: LinearSVC().fit(rows, labels),
        "clusterer": lambda: KMeans(3, n_init=1, random_state=0).fit(rows),
    }
    skops.io.dump(fitted[kind](), tmp_path / "model.skops")
    package = tmp_path / "package"
    run(ExportRequest(tmp_path / "model.skops", package, "pickle"))

    done = _run(package, "--replay")

    assert done.returncode == 0, done.stderr
    assert "skops==" in (package / "runtimes/python/requirements.txt").read_text()


def test_requirements_are_the_runtimes_alone(source: Path, tmp_path: Path) -> None:
    run(ExportRequest(source, tmp_path / "package", "onnx", preprocessing=PREPROCESSING))

    lines = (tmp_path / "package/runtimes/python/requirements.txt").read_text().split()

    assert [line.partition(">=")[0] for line in lines] == ["numpy", "pillow", "onnxruntime"]
