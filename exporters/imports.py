"""Find out whether a module can be imported here, by importing it.

An installed package may still fail: its native part may not load, or a package that it needs may be missing.
``failures`` imports in child processes, so that a module that crashes its process does not affect others.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .errors import MissingDependency, as_limit

ABSENT = "is not installed"
NOT_YET = "not yet imported since the last installation; importing takes up to a minute"
_TIMEOUT_S = 300
_CHILD = "import sys; from exporters import imports; imports.report(sys.argv[1:])"


def import_silently(module: str) -> Any:
    """Import a module without the telemetry package of OpenVINO and NNCF.

    That package also forks a process for each report, with all memory of this one.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import then fails
    return import_module(module)


def why_not(module: str) -> str | None:
    """Import a module into this process. Return None, ``ABSENT``, or ``cannot be imported (…)``."""
    try:
        import_silently(module)
    except ModuleNotFoundError as exc:
        if exc.name and f"{module}.".startswith(f"{exc.name}."):
            return ABSENT
        return _failed(exc)
    except (Exception, SystemExit) as exc:
        if limit := as_limit(exc):
            raise limit from exc
        return _failed(exc)
    return None


def require(module: str, advice: str) -> None:
    """Raises MissingDependency, with the reason, if the module cannot be imported."""
    if reason := why_not(module):
        raise MissingDependency(f"{module.partition('.')[0]} {reason}: {advice}")


def failures(modules: Iterable[str]) -> dict[str, str | None]:
    """Module → why it cannot be imported, or None if it can. Takes seconds per framework."""
    wanted = list(dict.fromkeys(modules))
    found: dict[str, str | None] = {}
    while rest := [module for module in wanted if module not in found]:
        answers, end = _in_child(rest)
        found |= answers
        if end is not None:
            found[next(module for module in rest if module not in found)] = f"cannot be imported ({end})"
    return found


def absences(modules: Iterable[str]) -> dict[str, str | None]:
    """Return module → ``ABSENT`` or ``NOT_YET``, without importing anything."""
    return {module: ABSENT if find_spec(module.partition(".")[0]) is None else NOT_YET for module in modules}


def report(modules: Iterable[str]) -> None:
    """Write a JSON line to standard output after each module. Runs in the child process."""
    from .sandbox.limits import die_with_parent

    die_with_parent()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # output of a library is not part of the result
        for module in modules:
            answers.write(json.dumps([module, why_not(module)]) + "\n")
            answers.flush()


def _in_child(modules: list[str]) -> tuple[Mapping[str, str | None], str | None]:
    """Return the child's results, and how it ended if that was before the last module."""
    command = [sys.executable, "-I", "-c", _CHILD, *modules]
    end: str | None = None
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S)
        output: bytes | None = done.stdout
        end = f"its process ended with exit code {done.returncode}"
    except subprocess.TimeoutExpired as exc:
        output = exc.stdout
        end = f"it took longer than {_TIMEOUT_S} s"
    answers = dict(json.loads(line) for line in (output or b"").splitlines())
    return answers, None if len(answers) == len(modules) else end


def _failed(exc: BaseException) -> str:
    message = " ".join(str(exc).split())
    return f"cannot be imported ({type(exc).__name__}: {message[:200]})"
