"""What the classes take and return: two data classes, and typed dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypedDict

# Exports with the same number before the dot can be validated and deployed by this version.
COMPATIBILITY_VERSION = "1.0"


@dataclass
class ModelExportMetadata:
    """Metadata for exported model.

    Attributes:
        model_id: the id of the registry's model version; for an export without a training job, a new UUID.
        export_timestamp: in UTC.
        training_job_id: the integer id of the training job; 0: there is none.
        model_type: the registry's ``algorithm`` of the version, or the class of the network.
        architecture_hash: sha256 in hexadecimal digits of the operators and the shapes of the weights. It is
            the same after more training.
        parameter_count: trained numbers. A weight that is shared by two layers counts once.
        input_dimension: numbers in one row of the first input.
        output_dimension: numbers in one row of the first output.
        age_group_min, age_group_max: in years; the maximum belongs to the next age group.
        compatibility_version: COMPATIBILITY_VERSION of the software that wrote the export.
        export_format: ``pytorch``, ``onnx`` or ``pickle``.
        file_size_bytes: of all files of the model, without its metadata.
        checksum: sha256 in hexadecimal digits of the model's file; of several files, that of the lines
            ``SHA256  NAME``, sorted by name.
    """

    model_id: str
    export_timestamp: datetime
    training_job_id: int
    model_type: str
    model_version: str
    architecture_hash: str
    parameter_count: int
    input_dimension: int
    output_dimension: int
    age_group_min: float
    age_group_max: float
    training_metrics: dict[str, Any]
    compatibility_version: str
    export_format: str
    file_size_bytes: int
    checksum: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary for serialization: JSON, with the time in ISO 8601."""
        return {**asdict(self), "export_timestamp": self.export_timestamp.isoformat()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelExportMetadata:
        """Return the object of a dictionary of ``to_dict``; other keys are ignored.

        Raises:
            KeyError, TypeError, ValueError: it is not one.
        """
        known = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{**known, "export_timestamp": datetime.fromisoformat(data["export_timestamp"])})


@dataclass
class ModelDeploymentConfig:
    """Configuration for model deployment.

    Attributes:
        model_export_path: of an entry of ``list_exported_models``.
        age_group_min, age_group_max: in years; the maximum belongs to the next age group.
        replace_existing: take overlapping age groups of the model out of the environment.
        validate_before_deployment: run ``ModelValidator.validate_exported_model`` first.
        backup_existing: copy the exports that are replaced to ``backups`` in the export folder.
        deployment_environment: the alias that the registry's version gets, such as ``production``.
    """

    model_export_path: str
    age_group_min: float
    age_group_max: float
    replace_existing: bool = False
    validate_before_deployment: bool = True
    backup_existing: bool = True
    deployment_environment: str = "production"

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary."""
        return asdict(self)


class ModelInfo(TypedDict, total=False):
    """``model_info`` of ``export_model_direct``; every key is optional.

    Attributes:
        name: of the model in the registry; by default ``model_type`` in lower case.
        model_type: by default the class of the network.
        model_version: a text of your own; the registry numbers versions itself. Default: ``1.0``.
        training_metrics: JSON.
        input_shape: of one row, without the batch. By default that of the first layer, if it is linear.
        example_inputs: tensors with the batch first, instead of ``input_shape``; needed for several inputs.
    """

    name: str
    model_type: str
    model_version: str
    training_metrics: dict[str, Any]
    input_shape: list[int]
    example_inputs: Any


class ExportedModel(TypedDict, total=False):
    """An entry of ``list_exported_models``.

    It has the keys of ``ModelExportMetadata.to_dict`` and two more. An export that cannot be read has only
    these two.

    Attributes:
        model_export_path: the file of the model, for ``ModelDeploymentConfig``; of an unreadable export, its
            folder.
        problem: why the export cannot be read; None: it can.
    """

    model_export_path: str
    problem: str | None
    model_id: str
    export_timestamp: str
    training_job_id: int
    model_type: str
    model_version: str
    architecture_hash: str
    parameter_count: int
    input_dimension: int
    output_dimension: int
    age_group_min: float
    age_group_max: float
    training_metrics: dict[str, Any]
    compatibility_version: str
    export_format: str
    file_size_bytes: int
    checksum: str


class ValidatedOutput(TypedDict):
    """The difference of one output from the source model's. None: not a number that can be compared."""

    max_abs: float | None
    max_rel: float | None
    cosine: float | None


class ValidationResult(TypedDict):
    """The result of ``validate_exported_model``, which raises unless all of it holds.

    Attributes:
        is_valid: True.
        checks: ``description``, ``checksum``, ``compatibility``, ``package`` and ``golden_inputs``.
        rows: how many golden inputs were run.
        outputs: by the output's name.
        environment: the sandbox that ran the export: ``network``, ``files``, ``limits``.
        validated_at: ISO 8601.
    """

    is_valid: bool
    model_id: str
    model_export_path: str
    checks: list[str]
    rows: int
    outputs: dict[str, ValidatedOutput]
    environment: dict[str, Any]
    validated_at: str


class DeployedModel(TypedDict):
    """A deployed age group, an entry of ``list_deployed_models``.

    Attributes:
        model_id: the integer id of the age group, for ``undeploy_model``.
        registry_model_id: the id of the registry's model version.
        model_name, model_version: of the registry's model version.
        export_metadata: ``ModelExportMetadata.to_dict``.
        deployed_at: ISO 8601.
    """

    model_id: int
    registry_model_id: str
    model_name: str
    model_version: str
    deployment_environment: str
    age_group_min: float
    age_group_max: float
    is_active: bool
    model_export_path: str
    export_metadata: dict[str, Any]
    deployed_at: str


class DeploymentResult(DeployedModel):
    """The result of ``deploy_model``.

    Attributes:
        replaced: the ids of the age groups that this one replaced.
        backups: the paths of their exports' copies, for ``model_export_path``.
        validation: None if ``validate_before_deployment`` is False.
    """

    replaced: list[int]
    backups: list[str]
    validation: ValidationResult | None


def age_range(low: float, high: float, error: type[Exception]) -> tuple[float, float]:
    """Return the range as floats. Raises: ``error``: it is empty, or no range of ages."""
    try:
        found = float(low), float(high)
    except (TypeError, ValueError):
        found = math.nan, math.nan
    if not 0 <= found[0] < found[1] < math.inf:
        raise error(
            f"The age group {low} to {high} must be two ages in years, the minimum below the maximum."
        )
    return found
