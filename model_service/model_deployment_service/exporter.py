"""``ModelExporter``: networks of training jobs or of this process, as files in the export folder."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_service.config import Settings
from model_service.jobs.command import NETWORK_EXPORT
from model_service.jobs.source import fetch, fetch_samples
from model_service.model_deployment_service.converter import ask, sandboxed
from model_service.model_deployment_service.errors import ModelExportError, raised_as
from model_service.model_deployment_service.export_folder import SOURCE, ExportFolder
from model_service.model_deployment_service.program import save_program
from model_service.model_deployment_service.records import (
    COMPATIBILITY_VERSION,
    ExportedModel,
    ModelExportMetadata,
    age_range,
)
from model_service.model_deployment_service.registry import (
    OpenRegistry,
    Registries,
    export_dir_of,
    settings_here,
)
from model_service.services.common.references import NAME
from model_service.services.exports.requests import source_of
from model_service.states import TrainingStatus

if TYPE_CHECKING:
    from torch import nn

    from model_service.model_deployment_service.interfaces import Session

FORMATS = ("pytorch", "onnx", "pickle")
TRAINING_JOB = "training_job"  # the kind of its integer ids


@dataclass(frozen=True)
class _Described:
    """What the metadata say that the converter does not find out."""

    model_id: str
    model_name: str
    model_type: str
    model_version: str
    framework: str | None
    training_job_id: int
    training_metrics: dict[str, Any]
    age_group_min: float
    age_group_max: float


class ModelExporter:
    """Service for exporting trained models in production-compatible format.

    Every export is converted in a sandboxed process, compared with its source there, and only then published.

    Args:
        export_dir: the folder of exports; by default ``exported-models`` in MODEL_SERVICE_HOME.
        db: the database for calls whose ``db`` is None; by default that of MONGODB_URL.
    """

    def __init__(self, export_dir: str | Path | None = None, db: Session | None = None) -> None:
        self._export_dir = export_dir
        self._registries = Registries(db)

    def export_model_from_training_job(
        self,
        training_job_id: int,
        age_group_min: float,
        age_group_max: float,
        export_format: str,
        db: Session,
    ) -> ModelExportMetadata:
        """Export model from completed training job: its newest version with a file, if that is a network.

        Args:
            training_job_id: its integer id, or the UUID that the registry shows. The metadata have the
                integer.
            age_group_min: minimum age for the age group, in years.
            age_group_max: maximum age for the age group, in years; it belongs to the next age group.
            export_format: ``pytorch``, ``onnx`` or ``pickle``.
            db: the registry's database.

        Raises:
            ModelExportError: there is no such job or model, the job is not completed, an argument is wrong,
                the model cannot be converted, or the result differs from it.
        """
        low, high = age_range(age_group_min, age_group_max, ModelExportError)
        _check_format(export_format)
        with raised_as(ModelExportError):
            registry = self._registries.of(db)
            job_id = _job_id(registry, training_job_id)
            job = registry.services.origins.training_job(job_id)
            if job["status"] != TrainingStatus.COMPLETED:
                raise ModelExportError(
                    f"The training job {training_job_id} is {job['status']}: only a completed one can be "
                    "exported."
                )
            model = registry.services.files.get_with_file(
                registry.services.origins.newest_model_with_file(job_id)
            )
            described = _Described(
                model_id=str(model["_id"]),
                model_name=model["name"],
                model_type=model["algorithm"],
                model_version=model["version"],
                framework=model["framework"],
                training_job_id=registry.stores.integer_ids.of(TRAINING_JOB, job_id),
                training_metrics=_metrics(job["metrics"] or model["metrics"]),
                age_group_min=low,
                age_group_max=high,
            )
            source, blobs = source_of(model), registry.stores.blobs

            def write_source(workspace: Path) -> tuple[Path, Path | None]:
                return fetch(blobs, source, workspace), fetch_samples(blobs, source, workspace)

            return self._export(registry.settings, described, export_format, write_source, registered=True)

    def export_model_direct(
        self,
        model: nn.Module,
        model_info: dict[str, Any],
        age_group_min: float,
        age_group_max: float,
        export_format: str,
    ) -> ModelExportMetadata:
        """Export model directly without training job reference. It needs no database.

        Args:
            model: PyTorch model to export. It is copied, and not changed.
            model_info: see ``ModelInfo``; every key is optional.
            age_group_min: minimum age for the age group, in years.
            age_group_max: maximum age for the age group, in years; it belongs to the next age group.
            export_format: ``pytorch``, ``onnx`` or ``pickle``.

        Raises:
            ModelExportError: an argument is wrong, the model cannot be converted, or the result differs from
                it.
        """
        low, high = age_range(age_group_min, age_group_max, ModelExportError)
        _check_format(export_format)
        model_type = str(model_info.get("model_type") or type(model).__name__)
        name = str(model_info.get("name") or model_type.lower())
        if not re.fullmatch(NAME, name):
            raise ModelExportError(
                f"{name[:80]!r} cannot be the name of a model: set 'name' of model_info to letters, digits, "
                "'_', '-' and '.'."
            )
        described = _Described(
            model_id=uuid.uuid4().hex,
            model_name=name,
            model_type=model_type,
            model_version=str(model_info.get("model_version") or "1.0"),
            framework="pytorch",
            training_job_id=0,
            training_metrics=_metrics(model_info.get("training_metrics") or {}),
            age_group_min=low,
            age_group_max=high,
        )

        def write_source(workspace: Path) -> tuple[Path, Path | None]:
            save_program(model, model_info, workspace / SOURCE)
            return workspace / SOURCE, None

        with raised_as(ModelExportError):
            return self._export(settings_here(), described, export_format, write_source, registered=False)

    def list_exported_models(self) -> list[ExportedModel]:
        """List all exported models, newest first. An unreadable one has an entry with its ``problem``.

        Raises:
            ModelExportError: the folder cannot be read.
        """
        with raised_as(ModelExportError):
            return ExportFolder(export_dir_of(self._export_dir)).entries()

    def _export(
        self,
        settings: Settings,
        described: _Described,
        export_format: str,
        write_source: Callable[[Path], tuple[Path, Path | None]],
        *,
        registered: bool,
    ) -> ModelExportMetadata:
        """Convert what ``write_source`` writes into a workspace: the model, and its sample inputs or None."""
        with sandboxed(settings, NETWORK_EXPORT) as child:
            source, samples = write_source(child.workspace)
            package = child.workspace / "package"
            request = {
                "source": str(source),
                "sample_inputs": None if samples is None else str(samples),
                "output_dir": str(package),
                "format": export_format,
                "model": {
                    "name": described.model_name,
                    "version": described.model_version,
                    "framework": described.framework,
                },
                "allowed_modules": settings.allowed_modules,
            }
            result = ask(child, settings, request)
            metadata = _metadata(described, export_format, result)
            own = None if registered else source
            folder = ExportFolder(export_dir_of(self._export_dir))
            export = folder.publish(metadata, result["files"], package, own, model_name=described.model_name)
        return export.metadata


def _check_format(export_format: str) -> None:
    if export_format not in FORMATS:
        raise ModelExportError(
            f"export_format is {export_format!r}, but must be one of {', '.join(FORMATS)}."
        )


def _job_id(registry: OpenRegistry, reference: int | str) -> str:
    if not isinstance(reference, int):
        return str(reference)
    found = registry.stores.integer_ids.subject(TRAINING_JOB, reference)
    if found is None:
        raise ModelExportError(
            f"No training job has the integer id {reference}. A job gets one when it is first exported by "
            "its UUID: training_job_id of that export's metadata."
        )
    return found


def _metrics(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics as JSON has them; numbers of numpy and torch become Python's."""
    try:
        found = json.loads(json.dumps(given, default=lambda value: value.item(), allow_nan=False))
    except (TypeError, ValueError, AttributeError, RuntimeError) as exc:
        raise ModelExportError(f"training_metrics must be JSON, without NaN and infinity: {exc}.") from exc
    if not isinstance(found, dict):
        raise ModelExportError("training_metrics must be a dictionary.")
    return found


def _metadata(described: _Described, export_format: str, result: Mapping[str, Any]) -> ModelExportMetadata:
    return ModelExportMetadata(
        model_id=described.model_id,
        export_timestamp=datetime.now(UTC),
        training_job_id=described.training_job_id,
        model_type=described.model_type,
        model_version=described.model_version,
        architecture_hash=str(result["architecture_hash"]),
        parameter_count=int(result["parameter_count"]),
        input_dimension=int(result["input_dimension"]),
        output_dimension=int(result["output_dimension"]),
        age_group_min=described.age_group_min,
        age_group_max=described.age_group_max,
        training_metrics=described.training_metrics,
        compatibility_version=COMPATIBILITY_VERSION,
        export_format=export_format,
        file_size_bytes=0,  # set when it is published
        checksum="",
    )
