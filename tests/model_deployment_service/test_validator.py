"""Validation finds damaged, changed and incompatible exports; untrusted files run in the sandbox alone."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporters import package as packages
from model_service.model_deployment_service import (
    ModelCompatibilityError,
    ModelExporter,
    ModelExportMetadata,
    ModelValidationError,
    ModelValidator,
)
from model_service.model_deployment_service.durable import sha256_of
from model_service.model_deployment_service.export_folder import checksum_of
from tests.model_deployment_service.conftest import Exported


def flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def forge(export: Exported, **changes: Any) -> ModelExportMetadata:
    """Make the manifest and the description agree with the files, as one who changes them could."""
    package, description = export.folder / "package", export.folder / "export.json"
    packages.write_manifest(package)
    found = json.loads(description.read_text())
    checksum, size = checksum_of(package, found["files"])
    found["metadata"] |= {"checksum": checksum, "file_size_bytes": size, **changes}
    found["manifest_sha256"] = sha256_of(package / "manifest.json")
    description.write_text(json.dumps(found))
    return ModelExportMetadata.from_dict(found["metadata"])


@pytest.mark.parametrize(
    "name", ["model.onnx", "golden.npz", "metadata.json", "fidelity.json", "manifest.json", "README.md"]
)
def test_one_changed_byte_is_found(validator: ModelValidator, exported: list[Exported], name: str) -> None:
    flip(exported[0].folder / "package" / name)
    with pytest.raises(ModelValidationError, match=r"checksum|manifest"):
        validator.validate_exported_model(exported[0].metadata)


def test_a_missing_and_an_additional_file_are_found(
    validator: ModelValidator, exported: list[Exported]
) -> None:
    (exported[0].folder / "package" / "more.txt").write_text("more")
    with pytest.raises(ModelValidationError, match=r"more\.txt is not in the package's manifest"):
        validator.validate_exported_model(exported[0].metadata)
    Path(exported[1].path).unlink()
    with pytest.raises(ModelValidationError, match="cannot be read"):
        validator.validate_exported_model(exported[1].metadata)


def test_a_link_in_the_export_is_refused(
    validator: ModelValidator, exported: list[Exported], tmp_path: Path
) -> None:
    Path(exported[0].path).rename(tmp_path / "model.onnx")
    Path(exported[0].path).symlink_to(tmp_path / "model.onnx")
    with pytest.raises(ModelValidationError, match="cannot be read"):
        validator.validate_exported_model(exported[0].metadata)
    (exported[1].folder / "package").rename(tmp_path / "package")
    (exported[1].folder / "package").symlink_to(tmp_path / "package")
    with pytest.raises(ModelValidationError, match="is a link"):
        validator.validate_exported_model(exported[1].metadata)


def test_a_model_that_computes_something_else_is_found_though_every_checksum_agrees(
    validator: ModelValidator, exported: list[Exported]
) -> None:
    shutil.copyfile(exported[1].path, exported[0].path)
    metadata = forge(exported[0])
    with pytest.raises(ModelValidationError, match="outputs for the golden inputs are not those"):
        validator.validate_exported_model(metadata)


def test_metadata_of_another_export_are_refused(validator: ModelValidator, exported: list[Exported]) -> None:
    metadata = exported[0].metadata
    with pytest.raises(ModelValidationError, match=r"parameter_count \d+, not 1\."):
        validator.validate_exported_model(replace(metadata, parameter_count=1))
    for model_id in ("f" * 32, "../../etc", ""):
        with pytest.raises(ModelValidationError, match=r"There is no export|is not the model_id"):
            validator.validate_exported_model(replace(metadata, model_id=model_id))


@pytest.mark.parametrize(
    "changes", [{"compatibility_version": "2.0"}, {"input_dimension": 63}, {"output_dimension": 65}]
)
@pytest.mark.parametrize("stored", [False, True], ids=["in the metadata", "in the export too"])
def test_an_incompatible_version_or_dimension_has_its_own_error(
    validator: ModelValidator, exported: list[Exported], changes: dict[str, Any], stored: bool
) -> None:
    metadata = forge(exported[0], **changes) if stored else replace(exported[0].metadata, **changes)
    with pytest.raises(ModelCompatibilityError, match=next(iter(changes))):
        validator.validate_exported_model(metadata)


def test_a_later_minor_version_is_compatible(validator: ModelValidator, exported: list[Exported]) -> None:
    metadata = forge(exported[0], compatibility_version="1.7")
    assert validator.validate_exported_model(metadata)["is_valid"]


def test_a_pickle_that_names_a_class_is_refused_in_the_sandbox(
    validator: ModelValidator, exported: list[Exported], tmp_path: Path
) -> None:
    class RunsCode:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    Path(exported[2].path).write_bytes(pickle.dumps(RunsCode()))
    metadata = forge(exported[2])
    with pytest.raises(ModelValidationError, match=r"names posix\.mkdir: loading it would run code"):
        validator.validate_exported_model(metadata)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_pickle_is_reported(validator: ModelValidator, exported: list[Exported]) -> None:
    Path(exported[2].path).write_bytes(pickle.dumps({"model.safetensors": "text"}))
    with pytest.raises(ModelValidationError, match="is not bytes"):
        validator.validate_exported_model(forge(exported[2]))
    Path(exported[2].path).write_bytes(pickle.dumps({"../x": b""}))
    with pytest.raises(ModelValidationError, match="not a dictionary of a network's files"):
        validator.validate_exported_model(forge(exported[2]))


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_the_sandbox_is_reported(validator: ModelValidator, exported: list[Exported]) -> None:
    environment = validator.validate_exported_model(exported[0].metadata)["environment"]
    assert environment["limits"]["memory_bytes"] > 0
    assert {"network", "files"} <= set(environment)


def test_nothing_in_the_folder_is_skipped_silently(
    exporter: ModelExporter, exported: list[Exported], export_dir: Path
) -> None:
    (export_dir / "stray.txt").write_text("no export")
    (export_dir / "empty").mkdir()
    (exported[0].folder / "export.json").write_text("{")
    newer = json.loads((exported[1].folder / "export.json").read_text()) | {"format_version": 2}
    (exported[1].folder / "export.json").write_text(json.dumps(newer))
    (export_dir / "link").symlink_to(exported[2].folder)
    problems = {
        Path(entry["model_export_path"]).name: entry["problem"] for entry in exporter.list_exported_models()
    }
    assert problems.pop(Path(exported[2].path).name) is None
    assert {name: str(problem).partition(": ")[2] or problem for name, problem in problems.items()} == {
        "stray.txt": "stray.txt has no export.json, so it is not an export.",
        "empty": "empty has no export.json, so it is not an export.",
        exported[0].folder.name: "export.json is damaged. Export the model again, or deploy a backup.",
        exported[1].folder.name: (
            "the export has the layout 2, but this version only reads 1. Update this software."
        ),
        "link": "link is a symbolic link, so it is not an export.",
    }
