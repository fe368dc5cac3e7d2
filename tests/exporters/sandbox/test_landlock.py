"""A confined process, tried from inside. Linux 5.13 and newer have what this needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import json, subprocess, sys
from pathlib import Path
from exporters.sandbox import landlock

inside, outside, parent = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
verdict = landlock.confine_to(inside)
import decimal, sqlite3  # the interpreter's own files can still be read

def tried(action):
    try:
        action()
    except OSError as exc:
        return type(exc).__name__
    return "done"

print(json.dumps({
    "verdict": verdict,
    "read inside": tried((inside / "file").read_text),
    "write inside": tried(lambda: (inside / "new").write_text("x")),
    "rename inside": tried(lambda: (inside / "new").rename(inside / "newer")),
    "read outside": tried((outside / "secret").read_text),
    "list outside": tried(lambda: list(outside.iterdir())),
    "write outside": tried(lambda: (outside / "new").write_text("x")),
    "delete outside": tried((outside / "secret").unlink),
    "passwd": tried(Path("/etc/passwd").read_text),
    "parent's environment": tried(Path(f"/proc/{parent}/environ").read_bytes),
    "a child's attempt": subprocess.call(["/bin/cat", outside / "secret"], stderr=subprocess.DEVNULL),
}))
"""


def test_nothing_outside_can_be_read_or_written(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "file").write_text("mine")
    (outside / "secret").write_text("theirs")
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, inside, outside, str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == {
        "verdict": "isolated",
        "read inside": "done",
        "write inside": "done",
        "rename inside": "done",
        "read outside": "PermissionError",
        "list outside": "PermissionError",
        "write outside": "PermissionError",
        "delete outside": "PermissionError",
        "passwd": "PermissionError",
        "parent's environment": "PermissionError",
        "a child's attempt": 1,
    }
    assert (outside / "secret").read_text() == "theirs"
