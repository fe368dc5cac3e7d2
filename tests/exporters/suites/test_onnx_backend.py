"""ONNX's backend tests as sources. Figures: benchmarks/results/suites.md."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from . import onnx_backend

pytestmark = pytest.mark.large

_LEAST_SHARE = {"onnx": 0.95, "openvino": 0.8}
_MOST_CRASHES = 40


@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_none_is_verified_and_wrong(format_name: str, tmp_path: Path) -> None:
    found = _measured(format_name, tmp_path / "results")
    runnable = [one for one in found if one["runtime"] == "right"]

    # Where onnxruntime itself does not answer as the standard says, its answers are the source's.
    wrong = [one for one in runnable if one["verdict"] == "verified" and one["artefact"] != "right"]
    refused = Counter(onnx_backend.cause(one["message"]) for one in runnable if one["verdict"] != "verified")
    right = len(runnable) - refused.total() - len(wrong)
    print(f"{format_name}: {len(found)} cases, {len(runnable)} runnable, {right} right, refused: {refused}")

    assert wrong == []
    assert len(runnable) > 1400
    assert right >= _LEAST_SHARE[format_name] * len(runnable)
    assert not [one for one in found if one["verdict"] == "traceback"]


def _measured(format_name: str, results: Path) -> list[dict[str, Any]]:
    """Of all cases: in another process, which starts again after a case that ended it."""
    for _ in range(_MOST_CRASHES):
        command = [sys.executable, "-m", onnx_backend.__name__, format_name, str(results)]
        if subprocess.run(command, capture_output=True).returncode == 0:
            return onnx_backend.read_results(results)
    pytest.fail(f"It crashed in {_MOST_CRASHES} cases.")
