"""The Python client: HTTP only, importable with nothing but urllib3 installed.

from model_service.client import ModelServiceClient

with ModelServiceClient("http://127.0.0.1:8084") as client:
    model_id = client.register_model({"name": "digits", "algorithm": "cnn"})
    client.upload_model(model_id, "digits.pt2")
    job = client.wait_for_export(client.create_export(model_id))
    deployment = client.wait_for_deployment(client.create_deployment(job.id, name="digits"))
    print(client.predict(deployment, images).predictions)
"""

from model_service.client.client import ModelServiceClient
from model_service.client.errors import (
    ChecksumMismatch,
    ClientError,
    Conflict,
    ConnectionFailed,
    DeploymentFailed,
    ExportCancelled,
    ExportFailed,
    InvalidArgument,
    InvalidRequest,
    JobFailed,
    NoSuchFile,
    NotFound,
    NotPermitted,
    ServiceError,
    ServiceFailure,
    ServiceUnavailable,
    TooManyRequests,
    TransferFailed,
    Unauthorized,
    UnexpectedAnswer,
    WaitTimedOut,
)
from model_service.client.progress import Bar, MakeBar
from model_service.client.types import Deployment, ExportJob, FileMetadata, Model, Page, Prediction

__all__ = [
    "Bar",
    "ChecksumMismatch",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "Deployment",
    "DeploymentFailed",
    "ExportCancelled",
    "ExportFailed",
    "ExportJob",
    "FileMetadata",
    "InvalidArgument",
    "InvalidRequest",
    "JobFailed",
    "MakeBar",
    "Model",
    "ModelServiceClient",
    "NoSuchFile",
    "NotFound",
    "NotPermitted",
    "Page",
    "Prediction",
    "ServiceError",
    "ServiceFailure",
    "ServiceUnavailable",
    "TooManyRequests",
    "TransferFailed",
    "Unauthorized",
    "UnexpectedAnswer",
    "WaitTimedOut",
]
