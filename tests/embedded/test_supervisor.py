"""Start in order, restart, stop in reverse order, and nothing left behind: with real, small processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for, wait_until_gone

Launch = Callable[[list[dict[str, str]]], subprocess.Popen[str]]

IMPORTS = "import pathlib, os, signal, sys, time, subprocess\n"
LIVE = "\npathlib.Path({ready!r}).touch()\nwhile True: time.sleep(60)"
# A process, and one that it starts in a session of its own; the pid of the second is left in a file.
WITH_GRANDCHILD = (
    "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
    "start_new_session={own_session}); pathlib.Path({note!r}).write_text(str(grandchild.pid)); "
)
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN); "


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launched = []

    def start(stages: list[dict[str, str]]) -> subprocess.Popen[str]:
        program = Path(__file__).with_name("launcher.py")
        process = subprocess.Popen(
            [sys.executable, "-P", program, tmp_path, json.dumps(stages)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        launched.append(process)
        return process

    yield start
    for process in launched:
        process.terminate()
        process.communicate(timeout=30)


def source(tmp_path: Path, name: str, body: str = "") -> str:
    """A program that does ``body``, is ready, and stays."""
    return IMPORTS + body + LIVE.format(ready=str(tmp_path / f"{name}.ready"))


def with_grandchild(tmp_path: Path, *, own_session: bool = False) -> str:
    return WITH_GRANDCHILD.format(own_session=own_session, note=str(tmp_path / "grandchild"))


def pids(tmp_path: Path) -> dict[str, int]:
    noted = tmp_path / "pids.json"
    wait_for(noted.exists, "everything ready")
    found = json.loads(noted.read_text())
    assert isinstance(found, dict)
    return found


def grandchild(tmp_path: Path) -> int:
    note = tmp_path / "grandchild"
    return int(wait_for(lambda: note.exists() and note.read_text(), "the grandchild's pid"))


def test_what_dies_is_started_again_and_its_own_children_end(launch: Launch, tmp_path: Path) -> None:
    launch([{"one": source(tmp_path, "one", with_grandchild(tmp_path)), "two": source(tmp_path, "two")}])
    before = pids(tmp_path)
    orphan = grandchild(tmp_path)
    os.kill(before["one"], signal.SIGKILL)
    wait_for(lambda: pids(tmp_path)["one"] != before["one"], "a new process", deadline_s=10)
    wait_until_gone([before["one"], orphan])
    assert pids(tmp_path)["two"] == before["two"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_even_what_ignores_it(
    launch: Launch, tmp_path: Path, number: signal.Signals
) -> None:
    stubborn = source(tmp_path, "stubborn", STUBBORN + with_grandchild(tmp_path, own_session=True))
    launcher = launch([{"base": source(tmp_path, "base", STUBBORN)}, {"stubborn": stubborn}])
    running = [*pids(tmp_path).values(), grandchild(tmp_path)]
    launcher.send_signal(number)
    assert launcher.wait(timeout=10) == 0
    wait_until_gone(running, deadline_s=0)


def test_nothing_outlives_a_launcher_that_was_killed(launch: Launch, tmp_path: Path) -> None:
    stubborn = source(tmp_path, "stubborn", STUBBORN + with_grandchild(tmp_path, own_session=True))
    launcher = launch([{"stubborn": stubborn}])
    running = [*pids(tmp_path).values(), grandchild(tmp_path)]
    launcher.kill()
    wait_until_gone(running)


def daemon(tmp_path: Path) -> str:
    """Starts a process as daemons start: an orphan, in a session of its own, with an empty environment."""
    note = str(tmp_path / "grandchild")
    inner = (
        "import os, pathlib, signal, sys, time; os.setsid(); os.fork() and os._exit(0); "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    )
    return f"subprocess.run([sys.executable, '-c', {inner!r}, {note!r}], env={{}}); "


def test_a_daemon_does_not_outlive_a_launcher_that_was_killed(launch: Launch, tmp_path: Path) -> None:
    launcher = launch([{"one": source(tmp_path, "one", daemon(tmp_path))}])
    running = [*pids(tmp_path).values(), grandchild(tmp_path)]
    launcher.kill()
    wait_until_gone(running)


def test_a_daemon_ends_before_its_process_is_started_again(launch: Launch, tmp_path: Path) -> None:
    launch([{"one": source(tmp_path, "one", daemon(tmp_path)), "two": source(tmp_path, "two")}])
    before = pids(tmp_path)
    left = grandchild(tmp_path)
    os.kill(before["one"], signal.SIGKILL)
    wait_for(lambda: pids(tmp_path)["one"] != before["one"], "a new process", deadline_s=10)
    wait_until_gone([left], deadline_s=0)
    assert pids(tmp_path)["two"] == before["two"]


@pytest.mark.parametrize("ending", ["kill", "terminate"])
def test_temporary_files_end_with_the_run(launch: Launch, tmp_path: Path, ending: str) -> None:
    note = tmp_path / "note"
    body = f"import tempfile; pathlib.Path({str(note)!r}).write_text(tempfile.mkdtemp()); "
    launcher = launch([{"one": source(tmp_path, "one", body)}])
    running = pids(tmp_path).values()
    folder = Path(note.read_text())
    assert folder.is_dir()
    getattr(launcher, ending)()
    wait_until_gone(running)
    wait_for(lambda: not folder.exists(), "the temporary folder to be removed", deadline_s=5)


def test_a_launcher_whose_guard_was_killed_says_so_and_ends(launch: Launch, tmp_path: Path) -> None:
    launcher = launch([{"one": source(tmp_path, "one", STUBBORN)}])
    running = pids(tmp_path).values()
    (guard,) = psutil.Process(launcher.pid).children()
    guard.kill()
    output, _ = launcher.communicate(timeout=10)
    assert launcher.returncode == 1
    assert output == "The guard process was killed, so everything was stopped. Start it again.\n"
    wait_until_gone(running)
    assert not (tmp_path / "run").exists()


def test_a_launcher_waits_for_what_a_killed_one_left(launch: Launch, tmp_path: Path) -> None:
    stages = [{"stubborn": source(tmp_path, "stubborn", STUBBORN)}]
    first = launch(stages)
    left = pids(tmp_path)["stubborn"]
    first.kill()
    (tmp_path / "pids.json").unlink()
    launch(stages)
    assert pids(tmp_path)["stubborn"] != left
    wait_until_gone([left], deadline_s=0)


def test_stages_start_in_order_and_stop_in_reverse(launch: Launch, tmp_path: Path) -> None:
    def polite(name: str) -> str:
        body = f"print('{name} starts'); signal.signal(signal.SIGTERM, lambda *_: sys.exit('{name} stops'))"
        return source(tmp_path, name, body)

    launcher = launch([{"database": polite("database")}, {"service": polite("service")}])
    pids(tmp_path)
    launcher.terminate()
    output, _ = launcher.communicate(timeout=20)
    assert output.splitlines() == [
        "database | database starts",
        "service  | service starts",
        "service  | service stops",
        "database | database stops",
    ]


def test_a_process_that_cannot_start_ends_the_rest_and_shows_its_log(launch: Launch, tmp_path: Path) -> None:
    launcher = launch(
        [
            {"database": source(tmp_path, "database", with_grandchild(tmp_path))},
            {"service": "import sys; sys.exit('PORT=abc is not allowed')"},
        ]
    )
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 1
    summary = output.partition("service ended 5 times during its start")[2]
    assert "PORT=abc is not allowed" in summary
    wait_until_gone([grandchild(tmp_path)], deadline_s=0)


def test_wrong_settings_end_everything_at_once(launch: Launch, tmp_path: Path) -> None:
    launcher = launch(
        [
            {"database": source(tmp_path, "database")},
            {"service": "import sys; print('PORT=abc is not allowed'); sys.exit(2)"},
        ]
    )
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 2
    assert output.splitlines()[-1] == "service: PORT=abc is not allowed"
    assert "restarts in" not in output


def test_settings_that_are_wrong_at_a_restart_end_everything(launch: Launch, tmp_path: Path) -> None:
    once = f"mark = pathlib.Path({str(tmp_path / 'mark')!r}); mark.exists() and sys.exit(2); mark.touch(); "
    launcher = launch([{"service": source(tmp_path, "service", once)}])
    os.kill(pids(tmp_path)["service"], signal.SIGKILL)
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 2
    assert output.splitlines()[-1] == "service: its settings are wrong"


def test_a_log_cannot_send_commands_to_the_terminal(launch: Launch, tmp_path: Path) -> None:
    hostile = "os.write(1, b'\\x1b]0;owned\\x07 \\xff and text\\r\\n')"
    launcher = launch([{"one": source(tmp_path, "one", hostile)}])
    pids(tmp_path)
    launcher.terminate()
    output, _ = launcher.communicate(timeout=20)
    assert output.startswith("one | ]0;owned \ufffd and text\n")


MIGRATES = "[(print('migration.running', flush=True), time.sleep(0.2)) for _ in range(40)]"


def test_a_start_is_not_late_while_data_is_migrated(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration of eight seconds, where a start may take five."""
    monkeypatch.setenv("START_S", "5")
    launch([{"api": source(tmp_path, "api", MIGRATES)}])
    assert pids(tmp_path).keys() == {"api"}
