"""The Python client: HTTP only, importable with nothing but urllib3 installed.

from model_service.client import ModelServiceClient

with ModelServiceClient("http://127.0.0.1:8084") as client:
    model_id = client.register_model({"name": "digits", "algorithm": "cnn"})
    client.upload_model(model_id, "digits.pt2")
    client.set_alias(model_id, "production")  # now also models:/digits@production
    job = client.wait_for_export(client.create_export(model_id))
    deployment = client.wait_for_deployment(client.create_deployment(job.id, name="digits"))
    print(client.predict(deployment, images).outputs)
"""

from model_service.client.access_types import (
    AuditEntry,
    AuditLog,
    Key,
    Namespace,
    Session,
    User,
    Whoami,
)
from model_service.client.client import ModelServiceClient
from model_service.client.deployment_types import (
    Deployment,
    DeploymentEvent,
    DeploymentKey,
    DeploymentUsage,
    LogEntry,
    Usage,
)
from model_service.client.errors import (
    ChecksumMismatch,
    ClientError,
    Conflict,
    ConnectionFailed,
    DeploymentFailed,
    EvaluationCancelled,
    EvaluationFailed,
    ExportCancelled,
    ExportFailed,
    InvalidArgument,
    InvalidRequest,
    JobFailed,
    NoSuchFile,
    NotFound,
    NotPermitted,
    PreconditionFailed,
    ServiceError,
    ServiceFailure,
    ServiceUnavailable,
    TLSFailed,
    TooManyRequests,
    TransferFailed,
    Unauthorized,
    UnexpectedAnswer,
    WaitTimedOut,
)
from model_service.client.gate_types import AliasEvent, Approval, CheckedGate, Condition, Gate
from model_service.client.inference.async_inference import AsyncInferenceClient
from model_service.client.inference.sync_inference import Prediction
from model_service.client.records import Page
from model_service.client.transport.events import Event
from model_service.client.transport.progress import Bar, MakeBar
from model_service.client.types import (
    Alias,
    Dataset,
    DeletedFile,
    DeletedModel,
    Evaluation,
    ExportJob,
    FileMetadata,
    FormatCapability,
    Model,
    TrainingJob,
)
from model_service.client.webhook_types import Delivery, Webhook

__all__ = [
    "Alias",
    "AliasEvent",
    "Approval",
    "AsyncInferenceClient",
    "AuditEntry",
    "AuditLog",
    "Bar",
    "CheckedGate",
    "ChecksumMismatch",
    "ClientError",
    "Condition",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "DeletedFile",
    "DeletedModel",
    "Delivery",
    "Deployment",
    "DeploymentEvent",
    "DeploymentFailed",
    "DeploymentKey",
    "DeploymentUsage",
    "Evaluation",
    "EvaluationCancelled",
    "EvaluationFailed",
    "Event",
    "ExportCancelled",
    "ExportFailed",
    "ExportJob",
    "FileMetadata",
    "FormatCapability",
    "Gate",
    "InvalidArgument",
    "InvalidRequest",
    "JobFailed",
    "Key",
    "LogEntry",
    "MakeBar",
    "Model",
    "ModelServiceClient",
    "Namespace",
    "NoSuchFile",
    "NotFound",
    "NotPermitted",
    "Page",
    "PreconditionFailed",
    "Prediction",
    "ServiceError",
    "ServiceFailure",
    "ServiceUnavailable",
    "Session",
    "TLSFailed",
    "TooManyRequests",
    "TrainingJob",
    "TransferFailed",
    "Unauthorized",
    "UnexpectedAnswer",
    "Usage",
    "User",
    "WaitTimedOut",
    "Webhook",
    "Whoami",
]
