"""The examples of the README, in their order, and the scripts in examples/; one service runs for all."""

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

from model_service.client import ModelServiceClient
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


def run_example(name: str, *arguments: str, url: str, exit_code: int = 0) -> str:
    """What an example prints, of a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        env=os.environ | {"MODEL_SERVICE_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == exit_code, f"{name}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_every_example_script_runs(service: Stack, tmp_path: Path) -> None:
    url = service.report["api"]
    assert re.search(r"v1\.0: accuracy 9\d\.", run_example("train_and_register", url=url))
    assert "verdict: verified" in run_example("export_and_verify", url=url)
    assert re.search(r"accuracy over HTTP: 9\d\.", run_example("deploy_and_predict", url=url))

    sizes = re.findall(r"^(\w+): ([\d,]+) bytes .* verified,", run_example("optimise", url=url), re.MULTILINE)
    by_precision = {precision: int(size.replace(",", "")) for precision, size in sizes}
    assert by_precision["FP16"] < by_precision["FP32"]

    model = "examples/digits@candidate"
    with ModelServiceClient(url) as client:
        assert "accuracy is" in run_example("ci_gate", model, "--at-least", "1.01", url=url, exit_code=1)
        assert client.get_model(model).aliases == ("candidate",)
        assert "PASSED" in run_example("ci_gate", model, "--at-least", "0.9", url=url)
        assert set(client.get_model(model).aliases) == {"candidate", "production"}

        not_a_model = tmp_path / "model.pt2"
        not_a_model.write_text("milk, bread")
        broken = client.register_model(
            "examples/broken", algorithm="convnet", framework="pytorch", metrics={"accuracy": 1.0}
        )
        client.upload_model(broken, not_a_model)
        assert "invalid_source" in run_example("ci_gate", broken, url=url, exit_code=1)


def test_every_example_script_is_run_and_short() -> None:
    scripts = sorted((ROOT / "examples").glob("*.py"))
    source = Path(__file__).read_text()
    assert len(scripts) == 5
    for script in scripts:
        assert f'run_example("{script.stem}"' in source
        assert len(script.read_text().splitlines()) <= 55
