"""One folder of packages, shared by servers that do not know of each other's deployments."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from model_service.serving.hosting.store import PackageStore
from tests.serving.conftest import World


@pytest.fixture
def package(world: World, package_zip: bytes) -> dict[str, Any]:
    """A reference to a stored package."""
    reference: dict[str, Any] = world.member(package_zip)["package"]
    return reference


@pytest.fixture
def neighbour(world: World) -> PackageStore:
    """Another server's store in the same folder: a lock of one is not the other's."""
    return PackageStore(world.stores.blobs, world.store.folder)


def aged(folder: Path, hours: float) -> Path:
    folder.mkdir()
    (folder / "package.zip").write_bytes(b"half")
    then = time.time() - hours * 3600
    os.utime(folder, (then, then))
    return folder


def test_what_another_server_uses_stays(
    world: World, neighbour: PackageStore, package: dict[str, Any]
) -> None:
    folder = world.store.fetch(package)
    neighbour.keep_only([])
    assert (folder / "model.onnx").is_file()
    world.store.keep_only([])
    assert not folder.exists()


def test_what_nobody_uses_goes(world: World, package: dict[str, Any]) -> None:
    folder = world.store.fetch(package)
    world.store.keep_only([])
    assert not folder.exists()
    assert world.store.fetch(package) == folder
    assert (folder / "model.onnx").is_file()


def test_only_a_fetch_that_was_left_behind_goes(world: World) -> None:
    young = aged(world.store.folder / ".fetch-young", hours=0.9)
    old = aged(world.store.folder / ".fetch-old", hours=2)
    removed = aged(world.store.folder / ".removed-old", hours=2)
    world.store.keep_only([])
    assert [each.exists() for each in (young, old, removed)] == [True, False, False]


def test_two_servers_share_a_copy(world: World, neighbour: PackageStore, package: dict[str, Any]) -> None:
    folder = world.store.fetch(package)
    before = (folder / "model.onnx").stat().st_ino
    assert neighbour.fetch(package) == folder
    assert (folder / "model.onnx").stat().st_ino == before


def test_a_damaged_copy_is_replaced_under_another_server(
    world: World, neighbour: PackageStore, package: dict[str, Any]
) -> None:
    folder = world.store.fetch(package)
    (folder / "stray").write_bytes(b"not of the package")
    assert neighbour.fetch(package) == folder
    assert not (folder / "stray").exists()
    world.store.keep_only([])
    assert folder.exists()  # the neighbour's now


def test_nothing_is_left_of_a_fetch_that_fails(world: World, package: dict[str, Any]) -> None:
    world.database.chunks.delete_many({"files_id": package["file_id"]})
    with pytest.raises(Exception, match="chunk"):
        world.store.fetch(package)
    assert list(world.store.folder.iterdir()) == []
