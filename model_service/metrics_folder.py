"""The folder in which the processes of one server share their metrics.

On import, prometheus_client decides whether its values are in memory or in files of this folder. The
program that starts a server's processes chooses the folder before anything imports ``model_service.metrics``.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def count_in(folder: Path) -> None:
    """Store the counters and histograms of this process, and of those that it starts, in ``folder``.

    Raises:
        RuntimeError: prometheus_client is imported already, so its values stay in this process's memory.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before the folder of its values was chosen")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(folder)


@contextmanager
def counting_together() -> Iterator[None]:
    """``count_in`` a temporary folder, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="model-service-metrics-") as folder:
        count_in(Path(folder))
        yield


def write_state(name: str, state: object) -> bool:
    """Replace the JSON file ``name`` in the folder: readers see the old state or the new one.

    Returns False without a folder, or if the state cannot be written: metrics never end a server.
    """
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return False
    target = Path(folder) / name
    aside = target.with_suffix(".tmp")
    try:
        aside.write_text(json.dumps(state))
        aside.replace(target)
    except OSError:
        return False
    return True
