"""The README's own text: each of its examples runs, in their order, in one folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.e2e.conftest import Stack, running

ROOT = Path(__file__).parents[2]
DEFAULT_URL = "http://127.0.0.1:8084"
OF_OTHERS = ("scripts/quickstart", "scripts/test", "model-service up")  # other steps, and the fixture
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
FOR_EVER = "model-service deployments watch"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("readme")) as stack:
        yield stack


def run_in_bash(text: str, folder: Path, url: str) -> str:
    """What the lines print; a command that runs until Ctrl-C is stopped after three seconds."""
    lines = [
        f"timeout --signal INT 3 {line} || true" if line.startswith(FOR_EVER) else line
        for line in text.splitlines()
    ]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env=os.environ
        | {
            "HOME": str(folder / "home"),
            "MODEL_SERVICE_URL": url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_example_of_the_readme_runs(
    service: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    url = service.report["api"]
    scans = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    np.save("scans.npy", scans)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    names: dict[str, Any] = {"model": network, "scans": scans}
    printed = ""
    for language, text in EXAMPLES:
        if any(command in text for command in OF_OTHERS):
            continue
        if language == "python":
            exec(text.replace(DEFAULT_URL, url), names)
        else:
            printed += run_in_bash(text.replace("JOB_ID", names["job"].id), tmp_path, url)
    assert np.load(tmp_path / "scans.npy").shape == scans.shape
    assert (tmp_path / "production.pt2").read_bytes() == (tmp_path / "digits.pt2").read_bytes()
    expected = network(torch.from_numpy(scans)).detach().numpy()
    np.testing.assert_allclose(
        names["client"].predict(names["deployment"], scans).outputs["output"], expected, rtol=1e-4, atol=1e-5
    )
    assert "output" in capsys.readouterr().out
    assert "output [3, 10]" in printed
