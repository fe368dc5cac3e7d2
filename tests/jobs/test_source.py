"""What a conversion gets of a version with several files."""

from pathlib import Path
from typing import Any

import pytest

from model_service.jobs.context import Context
from model_service.jobs.converter import ConversionError
from model_service.jobs.source import fetch
from model_service.services import Services
from model_service.services.exports.requests import source_of
from model_service.services.files.files import NewFile
from tests.factories import model_fields


def source(services: Services, *paths: str, primary: str | None = None) -> dict[str, Any]:
    model = services.models.register(model_fields())
    for path in paths:
        new = NewFile.at(path, primary=path == primary)
        services.files.store(model, iter([path.encode()]), new, sha256=None)
    return source_of(services.files.get_with_file(str(model["_id"])))


@pytest.mark.parametrize(
    ("paths", "primary", "architecture", "converted"),
    [
        (["model.pt2"], "model.pt2", False, "source.pt2"),
        (["model.pt2", "labels.txt"], "model.pt2", False, "source/model.pt2"),
        (["model.onnx", "model.onnx.data"], "model.onnx", False, "source/model.onnx"),
        (["config.json", "model.safetensors", "tokenizer.json"], "config.json", False, "source"),
        (["config.json", "model.safetensors"], "model.safetensors", False, "source"),
        (["bert/config.json", "bert/model.safetensors", "a.md"], "bert/config.json", False, "source/bert"),
        (["config.json", "model.safetensors"], "model.safetensors", True, "source/model.safetensors"),
        (["config.json", "model.onnx"], "model.onnx", False, "source/model.onnx"),
    ],
)
def test_the_whole_version_is_there_and_the_right_part_of_it_is_converted(
    context: Context,
    services: Services,
    tmp_path: Path,
    paths: list[str],
    primary: str,
    architecture: bool,
    converted: str,
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    found = source(services, *paths, primary=primary)
    path = fetch(context.stores.blobs, found, workspace, architecture=architecture)
    assert path == workspace / converted
    if len(paths) > 1:
        for one in paths:
            assert (workspace / "source" / one).read_text() == one


def test_paths_that_are_no_folder_of_files_are_the_models_fault(
    context: Context, services: Services, tmp_path: Path
) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(ConversionError) as clash:
        fetch(context.stores.blobs, source(services, "a", "a/b"), tmp_path / "w")
    assert clash.value.code == "invalid_source"
    (tmp_path / "x").mkdir()
    with pytest.raises(ConversionError) as long:
        fetch(context.stores.blobs, source(services, "a", "b" * 300), tmp_path / "x")
    assert "too long" in long.value.message


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside"])
def test_no_path_leads_out_of_the_folder(
    context: Context, services: Services, tmp_path: Path, path: str
) -> None:
    found = source(services, "a", "b")
    found["files"][0]["path"] = path
    with pytest.raises(ConversionError):
        fetch(context.stores.blobs, found, tmp_path)
    assert not (tmp_path.parent / "outside").exists()


def test_the_digest_of_several_files_is_of_their_paths_too(services: Services) -> None:
    one, other = source(services, "a", "b"), source(services, "a", "b")
    assert one["checksum"] == other["checksum"]
    assert one["size_bytes"] == 2
    assert source(services, "a", "c")["checksum"] != one["checksum"]
