"""What commands keep on this machine, several of them at a time."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

# One command after another, as a script that makes deployments runs them; several of these at a time.
PROGRAM = """
import sys
from datetime import UTC, datetime, timedelta
from model_service.cli.deployments.kept_keys import forget_key, keep_key
from model_service.cli.access.session_store import keep
from model_service.client import Session

mine, later = sys.argv[1], datetime.now(UTC) + timedelta(hours=1)
print(flush=True)
sys.stdin.readline()
for n in range(40):
    keep_key(f"{mine}-{n}", f"pk_{n}")
    keep(f"http://{mine}-{n}", Session(raw={}, user="alice", token=f"t{n}", expires_at=later))
    if n % 2:
        forget_key(f"{mine}-{n}")
"""


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, f"d{number}"],
            env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    for each in commands:
        assert each.stdout is not None
        each.stdout.readline()
    for each in commands:
        assert each.stdin is not None
        each.stdin.write(b"\n")
        each.stdin.flush()
    for each in commands:
        each.communicate(timeout=60)
        assert each.returncode == 0
    folder = tmp_path / "model-service"
    keys = json.loads((folder / "deployment_keys.json").read_text())
    assert keys == {f"d{number}-{n}": f"pk_{n}" for number in range(4) for n in range(0, 40, 2)}
    sessions = json.loads((folder / "sessions.json").read_text())
    assert set(sessions) == {f"http://d{number}-{n}" for number in range(4) for n in range(40)}
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".json", ".lock", ".lock"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
