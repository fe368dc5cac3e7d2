"""Every error that the service returns: its code, its HTTP status and its meaning.

    ModelServiceError
    ├── InvalidRequest        your input
    │   ├── MalformedId  InvalidJSON  InvalidArchive  InvalidField  UnsupportedOption  IncompleteUpload
    │   ├── BodyTimeout
    │   ├── NotFound  NoFile  Conflict  FileTooLarge  LengthRequired  PreconditionFailed  UnsupportedEncoding
    │   ├── WouldReplace  ConfirmationRequired  GateRefused
    │   └── NotVerified  RangeNotSatisfiable  IdempotencyKeyReused
    ├── NotPermitted          permission
    │   ├── SignatureInvalid  Unauthorized  RateLimited  QuotaExceeded  ExportLimitReached
    │   └── DeploymentLimitReached
    └── ServiceFailure        our service
        └── ServiceUnavailable  DamagedBlob  DiskFull

The fourth family, "your model", is no HTTP response: it is the ``error_code`` of a failed job, from
``exporters.errors``.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class ModelServiceError(Exception):
    """The base class. ``details`` is JSON for programs; the message is for people."""

    code = "internal_error"
    status = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidRequest(ModelServiceError):
    code = "invalid_request"
    status = 400


class MalformedId(InvalidRequest):
    code = "malformed_id"

    def __init__(self, kind: str, value: str, hint: str = "") -> None:
        message = f"{value[:64]!r} is not the id of {_a(kind)}."
        super().__init__(f"{message} {hint}".rstrip(), id=value[:64])


class InvalidJSON(InvalidRequest):
    """The body is not JSON, or its Content-Type is not JSON."""

    code = "invalid_json"


class InvalidArchive(InvalidRequest):
    """Truncated, changed, or not an archive of this service; nothing of it is visible."""

    code = "invalid_archive"


class IncompleteUpload(InvalidRequest):
    """The body ended before its announced length; nothing was stored."""

    code = "incomplete_upload"


class BodyTimeout(InvalidRequest):
    """The body arrived too slowly; its connection is closed."""

    code = "body_timeout"
    status = 408


class UnsupportedEncoding(InvalidRequest):
    """The body has a ``Content-Encoding``; nothing of it was read."""

    code = "unsupported_encoding"
    status = 415

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"A body with 'Content-Encoding: {encoding[:40]}' is not accepted: send it "
            "uncompressed, without that header. To store a file that is itself compressed, only "
            "remove the header.",
            encoding=encoding[:40],
        )


class LengthRequired(InvalidRequest):
    """A raw upload without a length or a checksum."""

    code = "length_required"
    status = 411


class InvalidField(InvalidRequest):
    """A field has a wrong value; ``details.fields`` names each."""

    code = "invalid_field"
    status = 422

    def __init__(self, message: str, fields: list[dict[str, str]]) -> None:
        super().__init__(message, fields=fields)

    @classmethod
    def of(cls, field: str, message: str, *, wrong: str | None = None) -> "InvalidField":
        """Create the error for one field: ``message`` is the requirement, ``wrong`` the present value."""
        return cls(f"{wrong or field}: {message}.", [{"field": field, "message": message}])


class UnsupportedOption(InvalidRequest):
    """The export option or deployment type is not offered; ``details.allowed`` lists what is."""

    code = "unsupported_option"
    status = 422


class NotFound(InvalidRequest):
    code = "not_found"
    status = 404

    def __init__(self, kind: str, wanted: str, hint: str = "", suggestions: Sequence[str] = ()) -> None:
        """``suggestions``: names similar to ``wanted`` that the caller may read."""
        details = {"did_you_mean": list(suggestions)} if suggestions else {}
        message = f"There is no {kind} {wanted!r}."
        super().__init__(f"{message} {hint}".rstrip(), kind=kind, id=wanted, **details)


class NoFile(InvalidRequest):
    """The model is registered, but no file was uploaded yet."""

    code = "no_file"
    status = 404

    def __init__(self, holder_id: str, kind: str = "model") -> None:
        super().__init__(f"{kind.capitalize()} {holder_id} has no file yet: upload one first.", id=holder_id)


class Conflict(InvalidRequest):
    """The request is valid, but not in the present state."""

    code = "conflict"
    status = 409


class NotVerified(Conflict):
    """The export was not verified against its source, so it cannot be deployed."""

    code = "not_verified"


class WouldReplace(Conflict):
    """The path has other bytes, and the request lacks ``replace``; ``details`` has both checksums."""

    code = "would_replace"


class ConfirmationRequired(Conflict):
    """Something depends on the version; ``details.confirm`` names what the request must confirm."""

    code = "confirmation_required"


class GateRefused(Conflict):
    """The alias has a gate that the version does not pass; ``details.missing`` lists the conditions."""

    code = "gate_refused"

    def __init__(self, name: str, version: str, alias: str, missing: Sequence[Mapping[str, Any]]) -> None:
        lacking = "; ".join(f"{one['required']} ({one['found']})" for one in missing)
        super().__init__(
            f"{name} {version} does not pass the gate of {alias!r}. Missing: {lacking}.",
            name=name,
            version=version,
            alias=alias,
            missing=list(missing),
        )


class FileTooLarge(InvalidRequest):
    code = "file_too_large"
    status = 413

    def __init__(self, limit_bytes: int, *, setting: str = "MAX_FILE_SIZE") -> None:
        super().__init__(
            f"The body is larger than {setting}, {limit_bytes:,} bytes. Nothing was stored.",
            limit_bytes=limit_bytes,
        )


class PreconditionFailed(InvalidRequest):
    code = "precondition_failed"
    status = 412


class RangeNotSatisfiable(InvalidRequest):
    code = "range_not_satisfiable"
    status = 416


class IdempotencyKeyReused(InvalidRequest):
    """The key was used before with another request."""

    code = "idempotency_key_reused"
    status = 422

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key[:64]!r} was used with another request: send a new key with a "
            "new request.",
            key=key[:255],
        )


class NotPermitted(ModelServiceError):
    code = "forbidden"
    status = 403


class SignatureInvalid(NotPermitted):
    """The signed URL has expired, or is for another request."""

    code = "signature_invalid"


class Unauthorized(NotPermitted):
    code = "unauthorized"
    status = 401


class RateLimited(NotPermitted):
    """More requests than the limit allows; the same request may succeed after ``retry_after_s``."""

    code = "rate_limited"
    status = 429

    def __init__(self, limit: str, retry_after_s: int, **details: Any) -> None:
        super().__init__(
            f"The rate limit ({limit}) is exceeded: try again in {retry_after_s} s.",
            limit=limit,
            retry_after_s=retry_after_s,
            **details,
        )
        self.retry_after_s = retry_after_s


class QuotaExceeded(NotPermitted):
    """A user's deployments have received all requests of the month that the user's tier allows."""

    code = "quota_exceeded"
    status = 429

    def __init__(self, allowed: int, retry_after_s: int, **details: Any) -> None:
        super().__init__(
            f"The owner of this endpoint has used the {allowed:,} requests of this month that the "
            "owner's tier allows: try again when the next month (UTC) begins. An administrator can "
            "change the tier.",
            allowed=allowed,
            retry_after_s=retry_after_s,
            **details,
        )
        self.retry_after_s = retry_after_s


class ExportLimitReached(NotPermitted):
    """The user's tier allows no more exports now; ``details`` has the limit."""

    code = "export_limit_reached"
    status = 429

    def __init__(self, limit: str, tier: str, allowed: int, used: int, retry_after_s: int) -> None:
        what = "exports at a time" if limit == "concurrent" else "exports in 24 hours"
        super().__init__(
            f"The tier {tier!s} allows {allowed} {what}, and you have {used}: "
            f"try again in {retry_after_s} s, or ask an administrator for another tier.",
            limit=limit,
            tier=tier,
            allowed=allowed,
            used=used,
            retry_after_s=retry_after_s,
        )
        self.retry_after_s = retry_after_s


class DeploymentLimitReached(NotPermitted):
    """The owner's tier allows no more active deployments. Waiting does not help, so the status is not 429."""

    code = "deployment_limit_reached"

    def __init__(self, owner: str, tier: str, allowed: int, used: int) -> None:
        super().__init__(
            f"The tier {tier!s} allows {allowed} active deployments, and {owner!r} has {used}: "
            "deactivate or delete one, or ask an administrator for another tier.",
            tier=tier,
            allowed=allowed,
            used=used,
        )


class ServiceFailure(ModelServiceError):
    """A fault of the service. The message has no traceback; the log has it under the request id."""


class DamagedBlob(ServiceFailure):
    """A stored file lacks bytes, so no complete archive is possible; ``model-service verify`` names it."""

    code = "blob_damaged"


class DiskFull(ServiceFailure):
    """A disk has less space than DISK_MIN_FREE: requests that store data fail, all others work."""

    code = "disk_full"
    status = 507

    def __init__(self, where: str, free_bytes: int, least_bytes: int, size_bytes: int = 0) -> None:
        after = (
            f" after the {size_bytes:,} bytes of this request, which is written three times"
            if size_bytes
            else ""
        )
        super().__init__(
            f"{where} has {free_bytes / 1e9:.3g} GB free, and {least_bytes / 1e9:.3g} GB "
            f"(DISK_MIN_FREE) must stay free{after}: nothing was stored. Reads, deletions and "
            "sign-ins still work. Free some disk space, or permanently delete models (many: "
            "'model-service cleanup'); then send it again.",
            free_bytes=free_bytes,
            least_bytes=least_bytes,
        )


def is_disk_full(error: BaseException) -> bool:
    """Return whether a local disk, or this user's quota on it, was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class ServiceUnavailable(ServiceFailure):
    """MongoDB is unreachable now; the same request may succeed after ``retry_after_s``."""

    code = "service_unavailable"
    status = 503

    def __init__(self, message: str, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
