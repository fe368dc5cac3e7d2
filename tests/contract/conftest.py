"""schemathesis' command line, against a server that listens."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
_COMMAND = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


@pytest.fixture
def conforms(tmp_path: Path) -> Callable[..., None]:
    """Run all checks against the server at a URL; the test fails with what schemathesis reports."""

    def run(url: str, *options: str, phases: str = "coverage,fuzzing", examples: int = 10) -> None:
        command = [sys.executable, "-c", _COMMAND, "--config-file", str(FOLDER / "schemathesis.toml")]
        command += ["run", f"{url}/openapi.json", "--phases", phases]
        command += ["--max-examples", str(examples), "--seed", "1", "--no-shrink", "--warnings", "off"]
        command += ["--continue-on-failure", "--no-color", *options]
        env = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
            "PYTHONPATH": str(FOLDER.parents[1]),
        }
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2000:]

    return run
