"""Every error the service answers with: its code, its HTTP status and what it means.

    ModelServiceError
    ├── InvalidRequest        your input
    │   ├── MalformedId  InvalidJSON  InvalidArchive  InvalidField  UnsupportedOption  IncompleteUpload
    │   ├── BodyTimeout
    │   ├── NotFound  NoFile  Conflict  FileTooLarge  LengthRequired  PreconditionFailed  UnsupportedEncoding
    │   ├── WouldReplace  ConfirmationRequired
    │   └── NotVerified  RangeNotSatisfiable  IdempotencyKeyReused
    ├── NotPermitted          permission
    │   ├── SignatureInvalid  Unauthorized  RateLimited  QuotaExceeded  ExportLimitReached
    │   └── DeploymentLimitReached
    └── ServiceFailure        our service
        └── ServiceUnavailable  DamagedBlob  DiskFull

The fourth family, "your model", is not an HTTP answer: it is the ``error_code`` of a failed job, from
``exporters.errors``.
"""

import errno
from collections.abc import Sequence
from typing import Any


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class ModelServiceError(Exception):
    """The root. ``details`` is JSON that a program can act on; the message is for a person."""

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
    """The body is not JSON, or does not say that it is."""

    code = "invalid_json"


class InvalidArchive(InvalidRequest):
    """Cut short, changed, or no archive of this service; nothing of it is visible."""

    code = "invalid_archive"


class IncompleteUpload(InvalidRequest):
    """The body ended before its announced length; nothing was kept."""

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
            f"A body with 'Content-Encoding: {encoding[:40]}' is not accepted: send it uncompressed, without "
            "that header. To store a compressed file as it is, leave the header out.",
            encoding=encoding[:40],
        )


class LengthRequired(InvalidRequest):
    """A raw upload with neither a length nor a checksum."""

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
        """One field: ``message`` says what it must be, ``wrong`` what it is."""
        return cls(f"{wrong or field}: {message}.", [{"field": field, "message": message}])


class UnsupportedOption(InvalidRequest):
    """An export option or deployment type that is not offered; ``details.allowed`` lists what is."""

    code = "unsupported_option"
    status = 422


class NotFound(InvalidRequest):
    code = "not_found"
    status = 404

    def __init__(self, kind: str, wanted: str, hint: str = "", suggestions: Sequence[str] = ()) -> None:
        """``suggestions``: names close to ``wanted``, each of which the caller may read."""
        details = {"did_you_mean": list(suggestions)} if suggestions else {}
        message = f"There is no {kind} {wanted!r}."
        super().__init__(f"{message} {hint}".rstrip(), kind=kind, id=wanted, **details)


class NoFile(InvalidRequest):
    """The model is registered, and nothing was uploaded for it yet."""

    code = "no_file"
    status = 404

    def __init__(self, holder_id: str, kind: str = "model") -> None:
        super().__init__(f"{kind.capitalize()} {holder_id} has no file yet: upload one first.", id=holder_id)


class Conflict(InvalidRequest):
    """The request is right, but not in the present state."""

    code = "conflict"
    status = 409


class NotVerified(Conflict):
    """Only an export that was proven equal to its source is deployed."""

    code = "not_verified"


class WouldReplace(Conflict):
    """Other bytes are published there, and the request lacks ``replace``; ``details`` has both checksums."""

    code = "would_replace"


class ConfirmationRequired(Conflict):
    """Something depends on the version; ``details.confirm`` names what the request has to confirm."""

    code = "confirmation_required"


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
    """The key came with another request before."""

    code = "idempotency_key_reused"
    status = 422

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key[:64]!r} was used for another request: a new request needs a new key.",
            key=key[:255],
        )


class NotPermitted(ModelServiceError):
    code = "forbidden"
    status = 403


class SignatureInvalid(NotPermitted):
    """A signed URL that expired, or was made for another request."""

    code = "signature_invalid"


class Unauthorized(NotPermitted):
    code = "unauthorized"
    status = 401


class RateLimited(NotPermitted):
    """More requests than the limit allows; the same one may pass in ``retry_after_s``."""

    code = "rate_limited"
    status = 429

    def __init__(self, limit: str, retry_after_s: int, **details: Any) -> None:
        super().__init__(
            f"More requests than the limit, {limit}, allows: try again in {retry_after_s} s.",
            limit=limit,
            retry_after_s=retry_after_s,
            **details,
        )
        self.retry_after_s = retry_after_s


class QuotaExceeded(NotPermitted):
    """The deployments of a user were asked as often as the user's tier allows in a month."""

    code = "quota_exceeded"
    status = 429

    def __init__(self, allowed: int, retry_after_s: int, **details: Any) -> None:
        super().__init__(
            f"This endpoint's owner has used the {allowed:,} requests a month of their tier: try again when "
            "the next month (UTC) begins. The owner can ask an administrator for another tier.",
            allowed=allowed,
            retry_after_s=retry_after_s,
            **details,
        )
        self.retry_after_s = retry_after_s


class ExportLimitReached(NotPermitted):
    """The user's tier allows no more exports now; ``details`` says how many it does."""

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
    """The owner's tier allows no more active deployments; waiting does not help, so it is no 429."""

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
    """A fault of ours. The message never carries a traceback; the log has it under the request id."""


class DamagedBlob(ServiceFailure):
    """A stored file lacks bytes, so no whole archive can be made; ``model-service verify`` tells which."""

    code = "blob_damaged"


class DiskFull(ServiceFailure):
    """A disk has less room than DISK_MIN_FREE: requests that store are refused, all others go on."""

    code = "disk_full"
    status = 507

    def __init__(self, where: str, free_bytes: int, least_bytes: int, size_bytes: int = 0) -> None:
        after = f" after the {size_bytes:,} bytes of this request, written three times" if size_bytes else ""
        super().__init__(
            f"{where} has {free_bytes / 1e9:.3g} GB free, and {least_bytes / 1e9:.3g} GB (DISK_MIN_FREE) "
            f"must stay free{after}: nothing was stored. Reads, deletions and signing in go on. Make room "
            "on the disk, or delete models for good (many: 'model-service cleanup'); then send it again.",
            free_bytes=free_bytes,
            least_bytes=least_bytes,
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether a local disk, or the share of it that this user has, was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class ServiceUnavailable(ServiceFailure):
    """MongoDB cannot be reached right now; the same request may work in ``retry_after_s``."""

    code = "service_unavailable"
    status = 503

    def __init__(self, message: str, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
