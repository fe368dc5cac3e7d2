"""The memory of each part of an idle service, and the disk of an empty one: ``python benchmarks/parts.py``.

``model-service up`` as a user starts it; the figures are taken when the worker's converter is ready.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import MB, free_port, resident, setting, table, write_results

_START_S = 120.0
_SETTLED_S = 60.0  # the worker imports its toolchains and its converter meanwhile
NAMES = {
    "mongod": "MongoDB, empty",
    "redis": "Redis, empty",
    "api": "registry, one process",
    "worker": "worker, with a converter kept ready (`EXPORT_PREWARM`)",
    "inference": "inference server, one process, no deployment",
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-parts-") as temporary:
        folder = Path(temporary) / "data"
        argv = [sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(folder)]
        argv += ["--port", str(free_port()), "--inference-port", str(free_port())]
        env = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "REDIS_URL")}
        with (Path(temporary) / "log").open("wb") as log:
            process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
        try:
            report = folder / "up.json"
            deadline = time.monotonic() + _START_S
            while not report.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the service did not start")
                time.sleep(0.1)
            time.sleep(_SETTLED_S)
            pids = json.loads(report.read_bytes())["pids"]
            rows = [
                [shown, f"{resident(psutil.Process(pids[name]))[0] / 2**20:,.0f}"]
                for name, shown in NAMES.items()
            ]
            disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    write_results("parts", _report(rows, disk))


def _report(rows: list[list[str]], disk_bytes: int) -> str:
    shown = table(["part", "RSS, MiB"], rows)
    return f"""# The parts of an idle service

`python benchmarks/parts.py`. {setting()}

`model-service up` with its defaults, {_SETTLED_S:.0f} s after the start: the sum of each part's processes.

{shown}
Its data folder takes {disk_bytes / MB:,.0f} MB.
"""


if __name__ == "__main__":
    main()
