"""The errors of these classes.

ModelDeploymentError
├── ModelExportError         the export failed
├── ModelValidationError     the export is damaged, or does not compute what its source does
└── ModelCompatibilityError  the export is whole, but this version or its description does not fit it
"""

from collections.abc import Iterator
from contextlib import contextmanager

from exporters.errors import PackageCorrupt
from model_service.config import SettingsError
from model_service.errors import ModelServiceError
from model_service.jobs.converter import ConversionError, ConverterBroken
from model_service.storage.common.db import DATABASE_ERRORS


class ModelDeploymentError(Exception):
    """Base exception for model deployment errors. The message says what to do."""


class ModelExportError(ModelDeploymentError):
    """Raised when model export fails."""


class ModelValidationError(ModelDeploymentError):
    """Raised when model validation fails."""


class ModelCompatibilityError(ModelDeploymentError):
    """Raised when model compatibility check fails."""


@contextmanager
def raised_as(kind: type[ModelDeploymentError]) -> Iterator[None]:
    """Raise the errors of the service, of MongoDB and of the disk inside the block as ``kind``."""
    try:
        yield
    except (ModelServiceError, ConversionError, PackageCorrupt) as exc:
        raise kind(exc.message) from exc
    except SettingsError as exc:
        raise kind(str(exc)) from exc
    except ConverterBroken as exc:
        raise kind(f"The sandboxed process for the model did not work: {exc}") from exc
    except DATABASE_ERRORS as exc:
        raise kind(f"MongoDB failed: {str(exc)[:300]}") from exc
    except OSError as exc:
        raise kind(f"{exc.filename or 'The disk'}: {exc.strerror or exc}") from exc
