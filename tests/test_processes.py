"""Child processes that handle uploaded files."""

import subprocess
import sys
from pathlib import Path

import pytest

from model_service import processes
from tests.waiting import wait_until_gone

_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_the_environment_names_the_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URL", "mongodb://secret")
    code = "import os; print(sorted(os.environ), os.environ['HOME'], os.getcwd())"
    process = processes.start([sys.executable, "-I", "-c", code], tmp_path, stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=60)
    assert said.decode().split("]") == ["['HOME', 'LANG', 'TMPDIR'", f" {tmp_path} {tmp_path}\n"]


def test_a_group_is_killed_with_its_children(tmp_path: Path) -> None:
    process = processes.start([sys.executable, "-I", "-c", _PARENT], tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    processes.kill_group(process)
    assert processes.ending(process.wait()) == "SIGKILL"
    wait_until_gone([child])
    processes.kill_group(process)  # it has ended: no error


@pytest.mark.parametrize(
    ("returncode", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-11, "SIGSEGV"), (-40, "signal 40")]
)
def test_how_a_process_ended(returncode: int, words: str) -> None:
    assert processes.ending(returncode) == words
