"""Export, validation and deployment of networks from Python, over the registry's database.

It needs no HTTP server. docs/python-classes.md has an example.
"""

from model_service.model_deployment_service.deployments import ModelDeploymentService
from model_service.model_deployment_service.errors import (
    ModelCompatibilityError,
    ModelDeploymentError,
    ModelExportError,
    ModelValidationError,
)
from model_service.model_deployment_service.exporter import ModelExporter
from model_service.model_deployment_service.interfaces import (
    ModelDeploymentConfigInterface,
    ModelDeploymentServiceInterface,
    ModelExporterInterface,
    ModelExportMetadataInterface,
    ModelValidatorInterface,
    Session,
)
from model_service.model_deployment_service.records import (
    COMPATIBILITY_VERSION,
    DeployedModel,
    DeploymentResult,
    ExportedModel,
    ModelDeploymentConfig,
    ModelExportMetadata,
    ModelInfo,
    ValidatedOutput,
    ValidationResult,
)
from model_service.model_deployment_service.validator import ModelValidator

__all__ = [
    "COMPATIBILITY_VERSION",
    "DeployedModel",
    "DeploymentResult",
    "ExportedModel",
    "ModelCompatibilityError",
    "ModelDeploymentConfig",
    "ModelDeploymentConfigInterface",
    "ModelDeploymentError",
    "ModelDeploymentService",
    "ModelDeploymentServiceInterface",
    "ModelExportError",
    "ModelExportMetadata",
    "ModelExportMetadataInterface",
    "ModelExporter",
    "ModelExporterInterface",
    "ModelInfo",
    "ModelValidationError",
    "ModelValidator",
    "ModelValidatorInterface",
    "Session",
    "ValidatedOutput",
    "ValidationResult",
]
