"""What earlier builds stored, opened by this one."""

import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_service.config import Settings, read_settings
from model_service.embedded import servers

HERE = Path(__file__).parent
BUILDS = sorted(each.name for each in HERE.iterdir() if (each / "facts.json").is_file())
WITH_ARCHIVE = [name for name in BUILDS if (HERE / name / "backup.tar.xz").is_file()]

Facts = dict[str, Any]


def facts_of(build: str) -> Facts:
    found: Facts = json.loads((HERE / build / "facts.json").read_text())
    return found


def archive_of(build: str) -> bytes:
    return lzma.decompress((HERE / build / "backup.tar.xz").read_bytes())


@contextmanager
def data_folder(build: str, parent: Path) -> Iterator[Settings]:
    """MongoDB and Redis on the folder that the build left behind: MongoDB's own files, as it was stopped."""
    with tarfile.open(HERE / build / "folder.tar.xz") as tar:
        tar.extractall(parent, filter="data")
    with servers(parent / "data") as addresses:
        yield read_settings(
            mongodb_url=addresses.mongodb_url,
            redis_url=addresses.redis_url,
            model_service_home=parent / "data",
        )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Settings]]:
    """Opens the data folder of a build."""
    with ExitStack() as stack:
        yield lambda build: stack.enter_context(data_folder(build, tmp_path))
