"""Which mongod and redis-server are taken."""

import sys
from pathlib import Path

import pytest

from model_service.embedded.binaries import find_mongod, find_redis_server
from model_service.embedded.errors import MissingBinary


def program(folder: Path, name: str, prints: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{prints}'\n")
    file.chmod(0o755)
    return file


def test_a_mongod_on_the_path_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mongod = program(tmp_path, "mongod", "db version v5.0.0")
    assert find_mongod() == mongod
    program(tmp_path, "mongod", "db version v4.4.29")
    assert find_mongod() != mongod


def test_without_any_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])  # where installed packages are looked for
    with pytest.raises(MissingBinary, match=r"model-service\[embedded\].*MONGODB_URL"):
        find_mongod()
    with pytest.raises(MissingBinary, match=r"model-service\[embedded\].*REDIS_URL"):
        find_redis_server()
