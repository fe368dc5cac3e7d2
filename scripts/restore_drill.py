"""Try a backup: scripts/restore-drill FILE

Restores the archive into an empty MongoDB of its own, in a temporary folder, and checks every byte, reference
and count. Your service is not touched. The exit code is 1 if the archive cannot be restored, or is not whole.
Needs this checkout's .venv with the extras `server` and `embedded`, and space for the data in the temporary
folder (TMPDIR).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from model_service.embedded import servers


def main(archive: str) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="restore-drill-") as folder,
        servers(Path(folder) / "servers") as addresses,
    ):
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("MONGODB_", "REDIS_"))
        }
        env |= {"MONGODB_URL": addresses.mongodb_url, "MODEL_SERVICE_HOME": folder}
        for words in (["restore", archive], ["verify"]):
            began = time.monotonic()
            done = subprocess.run([sys.executable, "-m", "model_service.cli", *words], env=env, check=False)
            if done.returncode:
                print(
                    f"The drill failed: model-service {words[0]} ended with {done.returncode}.",
                    file=sys.stderr,
                )
                return 1
            print(f"{words[0]}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
