"""The memory that an artefact needs: the peak of a process that does nothing else than run it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..base import Arrays

_TIMEOUT_S = 120
# A process inherits the peak of the one that forked it, so a small shell stands between. A command after it
# keeps the shell from replacing itself.
_SHELL = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
_CHILD = "import sys; from exporters.proof import memory; memory.report(*sys.argv[1:])"


def peak(format_name: str, artefact: Path, inputs: Arrays) -> dict[str, Any]:
    """Load an artefact and run one batch in a new process.

    Return ``peak_memory_bytes``, resident, with Python and the runtime; {} if the process fails.
    """
    with tempfile.TemporaryDirectory(dir=artefact.parent) as scratch:
        path = Path(scratch) / "inputs.npz"
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{f"input:{name}": one for name, one in inputs.items()})
        child = [sys.executable, "-I", "-c", _CHILD, format_name, str(artefact), str(path)]
        try:
            done = subprocess.run(
                [*_SHELL, *child],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
            )
            found: dict[str, Any] = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return {}
    return found


def report(format_name: str, artefact: str, inputs: str) -> None:
    """Write the result of ``peak`` to standard output. Runs in the child process."""
    import resource

    from .. import runners
    from ..sandbox.limits import die_with_parent

    die_with_parent()
    with np.load(inputs, allow_pickle=False) as archive:
        arrays: Arrays = {name.removeprefix("input:"): archive[name] for name in archive.files}
    runners.open_artefact(format_name, Path(artefact)).predict(arrays)
    print(json.dumps({"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
