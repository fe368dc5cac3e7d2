"""The errors of a conversion: a code for programs, and a message for the model's owner.

ExportError
├── UnsupportedOption     a setting that this format does not support; ``allowed`` lists the valid ones
├── MissingDependency     the format's toolchain is not installed here
├── InvalidSource         the file is no model, is damaged, or cannot be converted as it is
├── UnsafeCheckpoint      loading the file would run code that came with it
├── ConversionFailed      the converter cannot convert this model
├── OptimizationFailed    the requested optimisation was not reached
├── GoalNotReached        no recipe of ``"optimize": "auto"`` reaches its goal
├── VerificationFailed    the conversion succeeded, but the result does not behave like the original
├── InvalidDataset        a dataset cannot be read, or does not fit the model
├── ValidationFailed      the artefact is worse on a dataset than its threshold allows
├── DeliveryFailed       a package for a device or container cannot be built of an export's package
├── LimitExceeded         the conversion needs more memory, disk or time than it is allowed
└── PackageCorrupt        a finished package does not match its manifest
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ExportError(Exception):
    """The base class. ``details`` is JSON for programs; the message is for people."""

    code = "export_failed"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UnsupportedOption(ExportError):
    code = "unsupported_option"

    def __init__(self, message: str, allowed: Any, **details: Any) -> None:
        super().__init__(message, allowed=allowed, **details)
        self.allowed = allowed


class MissingDependency(ExportError):
    code = "missing_dependency"


class InvalidSource(ExportError):
    code = "invalid_source"


class UnsafeCheckpoint(ExportError):
    code = "unsafe_checkpoint"


class ConversionFailed(ExportError):
    code = "conversion_failed"


class OptimizationFailed(ExportError):
    code = "optimization_failed"


class GoalNotReached(ExportError):
    """``details["optimization"]`` has the table of the recipes."""

    code = "goal_not_reached"


class VerificationFailed(ExportError):
    code = "verification_failed"


class InvalidDataset(ExportError):
    code = "invalid_dataset"


class ValidationFailed(ExportError):
    code = "validation_failed"


class DeliveryFailed(ExportError):
    code = "delivery_failed"


class LimitExceeded(ExportError):
    code = "limit_exceeded"


class PackageCorrupt(ExportError):
    code = "package_corrupt"


# torch and onnxruntime report a failed allocation by a RuntimeError with these words, not a MemoryError.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
)


def as_limit(exc: BaseException) -> LimitExceeded | None:
    """Return ``exc`` or its cause as a ``LimitExceeded``; None if it is another kind of error."""
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, LimitExceeded):
            return current
        text = str(current).lower()
        if isinstance(current, MemoryError) or any(phrase in text for phrase in _OUT_OF_MEMORY):
            return LimitExceeded("The process ran out of memory. Raise its memory limit.", limit="memory")
        if isinstance(current, OSError) and current.errno == errno.EFBIG:
            return LimitExceeded(
                "The process wrote a file larger than allowed. Raise its file size limit.", limit="file"
            )
        if isinstance(current, OSError) and current.errno in (errno.ENOSPC, errno.EDQUOT):
            return LimitExceeded("The disk is full. Free some space and try again.", limit="disk")
        current = current.__cause__ or current.__context__
    return None


def reason(exc: BaseException) -> str:
    """Return the innermost cause in one line: the outer ones are advice on debugging torch itself."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if lines and "TorchScript interpreter" in lines[0]:  # a stack trace follows, then the error itself
        lines = [lines[-1].removeprefix("RuntimeError: ")]
    return f"{type(exc).__name__}: {lines[0][:300] if lines else 'no reason given'}"


# Added to a converter's own reason.
_ADVICE = " Another format, or another opset_version if the format has that option, uses another converter."


@contextmanager
def converting(failure: str, converter: str, advice: str = "") -> Iterator[None]:
    """Convert every error inside to a ``ConversionFailed`` with the failure, its reason and advice.

    A ``ConversionFailed`` or ``OptimizationFailed`` is raised unchanged.

    Raises:
        LimitExceeded: memory, disk or time ran out.
    """
    try:
        yield
    except (ConversionFailed, OptimizationFailed):
        raise
    except Exception as exc:
        raise as_limit(exc) or ConversionFailed(
            f"{failure}: {reason(exc)}{advice or _ADVICE}", converter=converter
        ) from exc
