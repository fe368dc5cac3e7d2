"""A child that follows a script instead of reading a model: what the worker does with its answers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_service.jobs.context import Context

PROGRESS = {"event": "progress", "step": "evaluate", "percent": 50.0, "message": "running the model"}


def script(
    context: Context, monkeypatch: pytest.MonkeyPatch, *events: dict[str, Any], ending: str = "pass"
) -> Path:
    """Have every child answer with these events, and then run ``ending``, a line of Python.

    Returns the file that has its command and its request.
    """
    program, heard = context.settings.home / "python", context.settings.home / "heard.jsonl"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys, time\n"
        "print(json.dumps({'event': 'ready'}), flush=True)\n"
        "request = json.loads(sys.stdin.readline())\n"
        f"with open({str(heard)!r}, 'a') as file:\n"
        "    file.write(json.dumps({'command': sys.argv[4], 'request': request}) + '\\n')\n"
        "for line in ('dataset',):\n"
        "    assert open(request[line]['path'], 'rb').read(1)\n"
        f"for event in json.loads({json.dumps(json.dumps(events))}):\n"
        "    print(json.dumps(event), flush=True)\n"
        f"{ending}\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("model_service.jobs.converter.sys", SimpleNamespace(executable=str(program)))
    return heard
