"""What a worker says it can convert."""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import psutil
import pytest

from exporters import registry
from exporters.base import FAMILIES, LIBRARIES
from model_service.config import Settings
from model_service.jobs.presence import Presence
from model_service.jobs.toolchain import ToolchainUnknown, examine_toolchain, find_toolchain
from model_service.services.exports.toolchains import Toolchains
from model_service.storage.common.db import Database
from model_service.storage.operations.workers import Workers
from tests.waiting import wait_for, wait_until_gone


def test_a_worker_reports_its_tools_and_what_they_make(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    found = find_toolchain(tmp_path, importing=True)
    assert found is not None
    assert found.complete
    assert set(found.formats) == {spec.name for spec in registry.specifications()}
    for name, families in found.formats.items():
        assert set(families) == {FAMILIES[kind] for kind in registry.kinds(name)}
        for family, reason in families.items():
            assert reason == registry.why_unavailable(name, family)
    assert found.formats["onnx"]["program"] is None
    assert found.tools["torch"] == importlib.metadata.version("torch")
    assert set(found.libraries) == set(LIBRARIES)
    assert set(found.libraries.values()) == {None}
    assert find_toolchain(tmp_path, importing=False) == found

    workers = Workers(database)
    Presence(workers, "w", found).report()
    Presence(workers, "one that knows nothing").report()
    assert Toolchains(workers).digests() == [found.digest]
    assert Toolchains(workers).reports() == [found.to_json()]


def test_what_cannot_be_imported_is_not_available_and_says_why(tmp_path: Path) -> None:
    """In an environment of empty frameworks: timm lacks a package, OpenVINO's native part crashes."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = Path(__file__).parents[2]
    (packages / "rest.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ours}\n")
    for module in registry.modules():
        if module not in ("tensorrt", "cuda"):
            parts = module.split(".")
            for depth in range(1, len(parts) + 1):
                folder = packages.joinpath(*parts[:depth])
                folder.mkdir(exist_ok=True)
                (folder / "__init__.py").touch()
    (packages / "timm/__init__.py").write_text("import a_package_that_is_missing")
    (packages / "openvino/__init__.py").write_text("import os; os.abort()")
    (packages / "litert_torch/__init__.py").write_text("raise OSError('libc10_cuda.so: cannot open')")

    def find(importing: bool) -> dict[str, Any]:
        code = (
            "import json; from pathlib import Path; from model_service.jobs.toolchain import find_toolchain\n"
            f"found = find_toolchain(Path({str(tmp_path)!r}), importing={importing})\n"
            "print(json.dumps(found.to_json()))"
        )
        python = [environment / "bin" / "python", "-I", "-c", code]
        answer: dict[str, Any] = json.loads(subprocess.run(python, stdout=subprocess.PIPE, check=True).stdout)
        return answer

    first = find(importing=False)
    assert first["complete"] is False
    assert "not yet imported" in first["formats"]["onnx"]["program"]

    found = find(importing=True)
    assert found["complete"] is True
    assert found["formats"]["onnx"]["program"] is None
    assert "ModuleNotFoundError: No module named 'a_package_that_is_missing'" in found["libraries"]["timm"]
    assert "its process ended with exit code -6" in found["formats"]["openvino"]["program"]
    assert "OSError: libc10_cuda.so" in found["formats"]["tflite"]["program"]
    assert found["libraries"]["huggingface"] is None

    again = find(importing=False)  # what failed is tried again, the rest is remembered
    assert again["complete"] is False
    assert again["formats"]["onnx"]["program"] is None
    assert "timm not yet imported" in again["libraries"]["timm"]
    assert (environment / "model-service-imports.json").exists()


_IMPORTING = """
import pathlib, sys
from model_service.jobs import toolchain
toolchain._remembered = lambda paths: {}
toolchain.find_toolchain(pathlib.Path(sys.argv[1]), importing=True)
"""


def test_imports_that_take_too_long(tmp_path: Path) -> None:
    with pytest.raises(ToolchainUnknown, match=r"^no result within 0\.01 s$"):
        examine_toolchain(tmp_path, importing=True, imports_s=0.01)


def test_the_import_of_the_tools_ends_with_its_worker(tmp_path: Path) -> None:
    """The worker's child starts another one, which imports every framework for a minute."""
    with subprocess.Popen([sys.executable, "-c", _IMPORTING, tmp_path]) as worker:

        def importing() -> list[psutil.Process]:
            found = psutil.Process(worker.pid).children(recursive=True)
            return found if len(found) == 2 and found[-1].cpu_times().user > 0.3 else []

        children = wait_for(importing, "both children", ignoring=(psutil.NoSuchProcess,))
        worker.kill()

    wait_until_gone([one.pid for one in children])
