"""``ModelValidator``: is an export whole, and does it still compute what its source computed?"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporters.errors import PackageCorrupt
from model_service.jobs.command import NETWORK_CHECK
from model_service.jobs.converter import ConversionError
from model_service.model_deployment_service.converter import ask, sandboxed
from model_service.model_deployment_service.durable import copy_tree
from model_service.model_deployment_service.errors import (
    ModelCompatibilityError,
    ModelValidationError,
    raised_as,
)
from model_service.model_deployment_service.export_folder import (
    AGAIN,
    PACKAGE,
    Export,
    ExportFolder,
    checksum_of,
    require_whole,
)
from model_service.model_deployment_service.records import (
    COMPATIBILITY_VERSION,
    ModelExportMetadata,
    ValidatedOutput,
    ValidationResult,
)
from model_service.model_deployment_service.registry import export_dir_of, settings_here

_COMPATIBILITY = ("compatibility_version", "input_dimension", "output_dimension")
_CHECKS = ["description", "checksum", "compatibility", "package", "golden_inputs"]


class ModelValidator:
    """Service for validating model compatibility and integrity.

    Args:
        export_dir: the folder of exports; by default ``exported-models`` in MODEL_SERVICE_HOME.
    """

    def __init__(self, export_dir: str | Path | None = None) -> None:
        self._export_dir = export_dir

    def validate_exported_model(self, export_metadata: ModelExportMetadata) -> ValidationResult:
        """Validate exported model for compatibility and integrity.

        Compares the files with the metadata, and runs the model on its golden inputs in a sandboxed process:
        the outputs must be those of the source model, within the tolerance of the export.

        Returns:
            What was checked; see ``ValidationResult``. A failed check raises instead.

        Raises:
            ModelValidationError: the export is missing, a file was changed, the metadata are of another
                export, or the outputs differ.
            ModelCompatibilityError: another ``compatibility_version`` than this software reads, or another
                ``input_dimension`` or ``output_dimension`` than the model has.
        """
        with raised_as(ModelValidationError):
            export = ExportFolder(export_dir_of(self._export_dir)).of(export_metadata)
            return validate(export, export_metadata)


def validate(export: Export, metadata: ModelExportMetadata) -> ValidationResult:
    """Validate an export; see ``ModelValidator.validate_exported_model``."""
    _require_compatible_version(metadata)
    _require_same(export, metadata)
    settings = settings_here()
    with sandboxed(settings, NETWORK_CHECK) as child:
        package = child.workspace / "package"
        try:
            copy_tree(export.folder / PACKAGE, package)
            checksum, size = checksum_of(package, export.files)
        except (PackageCorrupt, OSError) as exc:
            raise ModelValidationError(f"{export.name}: the files cannot be read: {exc}") from exc
        if (checksum, size) != (metadata.checksum, metadata.file_size_bytes):
            raise ModelValidationError(
                f"{export.name}: the model's files have the checksum {checksum} and {size} bytes instead of "
                f"{metadata.checksum} and {metadata.file_size_bytes}, so they were changed. {AGAIN}"
            )
        require_whole(package, export)
        request = {"source": str(package), "output_dir": str(package), "format": metadata.export_format}
        try:
            result = ask(child, settings, request)
        except ConversionError as exc:
            raise ModelValidationError(f"{export.name}: {exc.message}") from exc
    for name in ("input_dimension", "output_dimension"):
        if result[name] != getattr(metadata, name):
            raise ModelCompatibilityError(
                f"{export.name}: the model has the {name} {result[name]}, the metadata say "
                f"{getattr(metadata, name)}."
            )
    return _result(export, metadata, result)


def _require_compatible_version(metadata: ModelExportMetadata) -> None:
    if metadata.compatibility_version.partition(".")[0] != COMPATIBILITY_VERSION.partition(".")[0]:
        raise ModelCompatibilityError(
            f"The export has the compatibility_version {metadata.compatibility_version!r}, but this version "
            f"reads {COMPATIBILITY_VERSION}. Export the model again with this version."
        )


def _require_same(export: Export, metadata: ModelExportMetadata) -> None:
    """Compare the metadata with those that were stored with the export."""
    for field in fields(metadata):
        stored, given = getattr(export.metadata, field.name), getattr(metadata, field.name)
        if stored != given:
            error = ModelCompatibilityError if field.name in _COMPATIBILITY else ModelValidationError
            raise error(f"{export.name} was exported with the {field.name} {stored!r}, not {given!r}.")


def _result(export: Export, metadata: ModelExportMetadata, result: dict[str, Any]) -> ValidationResult:
    wrong = [name for name, output in result["outputs"].items() if not output["passed"]]
    if wrong:
        reasons = "; ".join(f"{name}: {result['outputs'][name].get('reason')}" for name in wrong)
        raise ModelValidationError(
            f"{export.name}: the outputs for the golden inputs are not those of the source model ({reasons})."
        )
    return {
        "is_valid": True,
        "model_id": metadata.model_id,
        "model_export_path": export.path,
        "checks": list(_CHECKS),
        "rows": result["rows"],
        "outputs": {name: _output(output) for name, output in result["outputs"].items()},
        "environment": result["environment"],
        "validated_at": datetime.now(UTC).isoformat(),
    }


def _output(report: dict[str, Any]) -> ValidatedOutput:
    return {"max_abs": report["max_abs"], "max_rel": report["max_rel"], "cosine": report["cosine"]}
