"""A program like `model-service up`, with stand-ins for its processes.

``launcher.py DATA STAGES``: STAGES is JSON, a list of stages, each an object of name → Python source. A
process is ready when it has made the file DATA/<name>.ready. DATA/pids.json then has the process ids.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from model_service.embedded import supervisor
from model_service.embedded.child import Process
from model_service.embedded.console import Console
from model_service.embedded.errors import EmbeddedError
from model_service.embedded.family import guarded
from model_service.embedded.lock import locked


def main(data_dir: Path, sources: list[dict[str, str]]) -> int:
    def write_pids(pids: Mapping[str, int]) -> None:
        (data_dir / "pids.tmp").write_text(json.dumps(dict(pids)))
        (data_dir / "pids.tmp").replace(data_dir / "pids.json")

    try:
        with locked(data_dir) as lock, guarded(data_dir, lock) as family:
            env = family.environment()
            stages = [
                [
                    Process(name, [sys.executable, "-c", source], env, (data_dir / f"{name}.ready").exists)
                    for name, source in stage.items()
                ]
                for stage in sources
            ]
            names = [process.name for stage in stages for process in stage]
            supervisor._START_S = float(os.environ.get("START_S", supervisor._START_S))
            supervisor.Supervisor(
                stages, family, Console(1, names, as_text=True), started=lambda: None, changed=write_pids
            ).run()
    except EmbeddedError as exc:
        print(exc, flush=True)
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
