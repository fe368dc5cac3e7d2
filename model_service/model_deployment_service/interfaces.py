"""The interfaces of the classes, for code that takes another implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from model_service.model_deployment_service.records import (
    DeployedModel,
    DeploymentResult,
    ExportedModel,
    ModelDeploymentConfig,
    ModelExportMetadata,
    ValidationResult,
)
from model_service.storage.common.db import MongoDatabase

if TYPE_CHECKING:
    from torch import nn

# The database of ``pymongo.MongoClient``, for example ``client["tensorfleet"]``.
Session: TypeAlias = MongoDatabase


@runtime_checkable
class ModelExportMetadataInterface(Protocol):
    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary for serialization."""


@runtime_checkable
class ModelDeploymentConfigInterface(Protocol):
    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionary."""


@runtime_checkable
class ModelExporterInterface(Protocol):
    def export_model_from_training_job(
        self,
        training_job_id: int,
        age_group_min: float,
        age_group_max: float,
        export_format: str,
        db: Session,
    ) -> ModelExportMetadata:
        """Export model from completed training job."""

    def export_model_direct(
        self,
        model: nn.Module,
        model_info: dict[str, Any],
        age_group_min: float,
        age_group_max: float,
        export_format: str,
    ) -> ModelExportMetadata:
        """Export model directly without training job reference."""

    def list_exported_models(self) -> list[ExportedModel]:
        """List all exported models."""


@runtime_checkable
class ModelValidatorInterface(Protocol):
    def validate_exported_model(self, export_metadata: ModelExportMetadata) -> ValidationResult:
        """Validate exported model for compatibility and integrity."""


@runtime_checkable
class ModelDeploymentServiceInterface(Protocol):
    def deploy_model(self, deployment_config: ModelDeploymentConfig, db: Session) -> DeploymentResult:
        """Deploy model to production environment."""

    def list_deployed_models(self, db: Session) -> list[DeployedModel]:
        """List all deployed models."""

    def undeploy_model(self, model_id: int, db: Session) -> bool:
        """Undeploy (deactivate) a model."""
