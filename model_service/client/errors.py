"""The exceptions of the client.

ClientError
├── InvalidArgument          refused by the client, nothing was sent
│   └── NoSuchFile           a local file does not exist; also a FileNotFoundError
├── ConnectionFailed         the network: no response, or an incomplete one
│   └── TLSFailed            an untrusted certificate, or HTTP at an HTTPS port
├── UnexpectedAnswer         the server at this address is not a Model Service
├── ServiceError             the service refused: code, status, details, request_id
│   ├── InvalidRequest       your input (4xx)
│   │   └── NotFound  Conflict  PreconditionFailed
│   ├── NotPermitted         permission (403)
│   │   └── Unauthorized  TooManyRequests
│   └── ServiceFailure       our service (5xx)
│       └── ServiceUnavailable
├── TransferFailed           an upload or download is incomplete
│   └── ChecksumMismatch
├── JobFailed                your model: its job is in .job
│   └── ExportFailed  ExportCancelled  EvaluationFailed  EvaluationCancelled  DeploymentFailed
└── WaitTimedOut             the job continues, only the waiting ended; .job is its last state
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_service.client.deployment_types import Deployment
    from model_service.client.types import Dataset, Evaluation, ExportJob


class ClientError(Exception):
    """The base class. ``message`` is for people; ``code`` and ``details`` are for programs."""

    code = "client_error"
    status: int | None = None
    request_id: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = {}

    def __str__(self) -> str:
        """Return the message and a hint for Python; other interfaces add their own hints to the message."""
        return f"{self.message} {self.in_python()}".rstrip()

    def in_python(self) -> str:
        if self.code == "unsupported_option":
            return 'Give options as export_config: create_export(model, "onnx", export_config={"name": 1}).'
        return ""


class InvalidArgument(ClientError, ValueError):
    code = "invalid_argument"


class NoSuchFile(InvalidArgument, FileNotFoundError):
    code = "file_error"


class ConnectionFailed(ClientError):
    code = "connection_failed"


class TLSFailed(ConnectionFailed):
    """An untrusted certificate, or HTTPS instead of HTTP, or HTTP instead of HTTPS; nothing was processed."""


class UnexpectedAnswer(ClientError):
    code = "unexpected_answer"


class ServiceError(ClientError):
    """The service's own error, with its ``code`` and ``details``."""

    def __init__(
        self, message: str, *, code: str, status: int, details: dict[str, Any], request_id: str | None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details
        self.request_id = request_id


class InvalidRequest(ServiceError):
    pass


class NotFound(InvalidRequest):
    pass


class Conflict(InvalidRequest):
    pass


class PreconditionFailed(InvalidRequest):
    """The object was changed in the meantime; ``details["etag"]`` belongs to its present state."""


class NotPermitted(ServiceError):
    pass


class Unauthorized(NotPermitted):
    """``key_given``: the request had a key, so the key is wrong."""

    key_given = False

    def in_python(self) -> str:
        if self.key_given:
            return "Check the api_key of the client, or call login() again."
        return "Give the client an api_key, or call login()."


class TooManyRequests(NotPermitted):
    pass


class ServiceFailure(ServiceError):
    pass


class ServiceUnavailable(ServiceFailure):
    pass


class TransferFailed(ClientError):
    code = "transfer_failed"


class ChecksumMismatch(TransferFailed):
    code = "checksum_mismatch"


class JobFailed(ClientError):
    """A job ended without its result; ``code`` is the job's own ``error_code``."""

    def __init__(self, job: "ExportJob | Evaluation | Deployment | Dataset", message: str, code: str) -> None:
        super().__init__(message)
        self.job = job
        self.code = code


class ExportFailed(JobFailed):
    pass


class ExportCancelled(JobFailed):
    pass


class EvaluationFailed(JobFailed):
    pass


class EvaluationCancelled(JobFailed):
    pass


class DeploymentFailed(JobFailed):
    pass


class WaitTimedOut(ClientError):
    code = "wait_timed_out"

    def __init__(self, job: "ExportJob | Evaluation | Deployment | Dataset", message: str) -> None:
        super().__init__(message)
        self.job = job


_BY_STATUS: dict[int, type[ServiceError]] = {
    401: Unauthorized,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    429: TooManyRequests,
    503: ServiceUnavailable,
}


_BY_PROXY = {
    401: "It requires a sign-in of its own, which the client does not support.",
    403: "It does not allow this request.",
    407: "It requires a sign-in of its own, which the client does not support.",
    413: "The body is larger than the proxy allows: raise its limit (nginx: client_max_body_size), or "
    "upload the file in parts, as the client does above 64 MiB.",
    502: "It cannot reach the service behind it: is it running?",
    503: "The service behind it is not available at the moment.",
    504: "The service behind it did not respond within the proxy's timeout: raise it (nginx: "
    "proxy_read_timeout).",
}


def from_answer(status: int, body: bytes, request_id: str | None, server: str | None = None) -> ServiceError:
    """Return the error for a response of 400 or more.

    A body that is not the service's JSON comes from a proxy, and gives the code ``http_<status>``. ``server``
    is the response's header of that name.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        error = {"message": error} if isinstance(error, str) else {}
    details = error.get("details")
    family = _BY_STATUS.get(status, InvalidRequest if status < 500 else ServiceFailure)
    return family(
        str(error.get("message") or _of_proxy(status, server)),
        code=str(error.get("code") or f"http_{status}"),
        status=status,
        details=details if isinstance(details, dict) else {},
        request_id=(answer.get("request_id") if isinstance(answer, dict) else None) or request_id,
    )


def _of_proxy(status: int, server: str | None) -> str:
    named = f" ({server[:60]})" if server else ""
    what = _BY_PROXY.get(status, "Its log has the reason.")
    return f"A proxy{named} responded with {status} instead of the service. {what}"
