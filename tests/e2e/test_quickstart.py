"""``scripts/quickstart`` interrupted: whatever ends it, no process and no file is left."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.processes import take_ctrl_c
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def start(temporary: Path) -> subprocess.Popen[bytes]:
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "quickstart.py"],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=take_ctrl_c,
    )


def processes_in(folder: Path) -> list[int]:
    """Those whose command line or working folder is in ``folder``, and what runs below them."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(
            str(folder) in word for word in process.info["cmdline"] or []
        ):
            found.append(process.pid)
    return found


def assert_nothing_is_left(temporary: Path) -> None:
    wait_for(lambda: not processes_in(temporary), "its processes to end", deadline_s=30)
    wait_for(lambda: not list(temporary.iterdir()), "its files to be removed", deadline_s=10)


def launcher_of(temporary: Path) -> int | None:
    for report in temporary.glob("*/data/up.json"):
        return int(json.loads(report.read_text())["pid"])
    return None


def is_starting(temporary: Path) -> bool:
    return any(temporary.glob("*/data/mongodb"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_quickstart_that_ends_while_it_starts(
    tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "t"
    with start(temporary) as quickstart:
        wait_for(lambda: is_starting(temporary), "the databases to start", deadline_s=60)
        quickstart.send_signal(number)
        _, said = quickstart.communicate(timeout=60)
    assert b"Traceback" not in said
    assert_nothing_is_left(temporary)


@pytest.mark.large
def test_nothing_is_left_after_ctrl_c_at_ten_moments(tmp_path: Path) -> None:
    for moment in range(10):
        temporary = tmp_path / str(moment)
        with start(temporary) as quickstart:
            try:
                quickstart.wait(timeout=0.3 + 2.5 * moment)
            except subprocess.TimeoutExpired:
                os.killpg(quickstart.pid, signal.SIGINT)
            quickstart.communicate(timeout=60)
        assert_nothing_is_left(temporary)


@pytest.mark.large
def test_nothing_is_left_after_kill_9_of_the_launcher(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    find: Callable[[], int | None] = lambda: launcher_of(temporary)  # noqa: E731
    with start(temporary) as quickstart:
        launcher = wait_for(find, "the service to be up", deadline_s=90)
        assert launcher is not None
        os.kill(launcher, signal.SIGKILL)
        quickstart.communicate(timeout=200)
        assert quickstart.returncode == 1
    assert_nothing_is_left(temporary)
