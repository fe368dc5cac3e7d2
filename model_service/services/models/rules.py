"""What must hold before a model is changed: who changes it, its revision, its status.

Revisions and transitions are of datasets and training jobs too.
"""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any

from model_service.actor import Permission, may_read, require
from model_service.errors import Conflict, NotFound, PreconditionFailed
from model_service.states import ModelStatus
from model_service.storage.common.db import Document


def permitted(edit: Callable[[Document], Document], reference: str) -> Callable[[Document], Document]:
    """``edit``, for a caller who may write the model. Raises: NotFound, NotPermitted."""

    def checked(before: Document) -> Document:
        require_writable(before, reference)
        return edit(before)

    return checked


def require_writable(model: Document, reference: str) -> None:
    """Raises: NotFound: it may not even be read. NotPermitted: read, not written."""
    if not may_read(model["name"]):
        raise NotFound("model", reference)
    require(Permission.WRITE, model["name"])


def require_not_archived(model: Document) -> None:
    """Raises: Conflict: an archived version keeps its files as they are, and takes no alias."""
    if model["status"] == ModelStatus.ARCHIVED:
        raise Conflict(
            f"{model['name']} {model['version']} is archived: set its status to 'active' to change it.",
            status=model["status"],
        )


def check_revision(model: Document, revisions: Collection[int] | None) -> None:
    """Raises: PreconditionFailed."""
    if revisions is not None and model["revision"] not in revisions:
        raise PreconditionFailed(
            "It changed since: read it again, and send its ETag in If-Match.",
            etag=f'"r{model["revision"]}"',
            revision=model["revision"],
        )


def check_transition(
    kind: str, status: StrEnum, wanted: str, transitions: Mapping[Any, Collection[StrEnum]]
) -> None:
    """Raises: Conflict: that status does not follow this one."""
    allowed = transitions[status]
    if wanted != status and wanted not in allowed:
        choice = " or ".join(repr(str(one)) for one in sorted(allowed)) or "nothing else"
        raise Conflict(
            f"A {kind} that is {status!s} becomes {choice}, not {wanted!s}.",
            status=status,
            allowed=sorted(allowed),
        )
