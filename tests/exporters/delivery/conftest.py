import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exporters import package
from exporters.convert import run
from exporters.request import ExportRequest
from tests.exporters.wrappers.detector import POSTPROCESSING, PREPROCESSING, Detector, save

CLASSES = ["cat", "dog", "bird"]
MODEL = {"name": "pets", "version": "v3", "framework": "pytorch", "task_type": "object_detection"}

Packages = Callable[[str], Path]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The zip of a detector's export by its format, made once: do not change it."""
    folder = tmp_path_factory.mktemp("delivery")
    torch.manual_seed(0)
    source = save(Detector().eval(), folder / "model.pt2")

    def get(format_name: str) -> Path:
        path = folder / f"{format_name}.zip"
        if not path.exists():
            declared = {"preprocessing": PREPROCESSING, "postprocessing": POSTPROCESSING, "classes": CLASSES}
            result = run(ExportRequest(source, folder / format_name, format_name, model=MODEL, **declared))
            package.pack(result.package_dir, path)
        return path

    return get


@pytest.fixture(scope="session")
def tensors(tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[[str], Path]) -> Path:
    """The zip of an ONNX export without declared processing, with two inputs and two outputs."""
    folder = tmp_path_factory.mktemp("tensors")
    result = run(ExportRequest(checkpoint("reader-pt2"), folder / "package", "onnx"))
    package.pack(result.package_dir, folder / "package.zip")
    return folder / "package.zip"


def unpacked(path: Path, folder: Path) -> Path:
    """Extract an archive as its user does."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    package.verify(folder)
    return folder
