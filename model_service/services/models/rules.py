"""Preconditions of a change: the caller's permission, the revision, the status transition.

The checks of revisions and transitions also apply to datasets and training jobs.
"""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TypeVar

from model_service.actor import Permission, may_read, require
from model_service.errors import Conflict, NotFound, PreconditionFailed
from model_service.states import ModelStatus
from model_service.storage.common.documents import Described, Fields
from model_service.storage.deployments.documents import Deployment
from model_service.storage.models.documents import Model, UnlistedModel

S = TypeVar("S", bound=StrEnum)


def permitted(edit: Callable[[Model], Fields], reference: str) -> Callable[[Model], Fields]:
    """Wrap ``edit`` to check that the caller may write the model. Raises: NotFound, NotPermitted."""

    def checked(before: Model) -> Fields:
        require_writable(before, reference)
        return edit(before)

    return checked


def require_writable(model: Described, reference: str) -> None:
    """Check that the caller may write the model.

    Raises:
        NotFound: the caller may not read the model.
        NotPermitted: the caller may only read it.
    """
    if not may_read(model["name"]):
        raise NotFound("model", reference)
    require(Permission.WRITE, model["name"])


def require_not_archived(model: UnlistedModel) -> None:
    """Check that files and aliases can be changed. Raises: Conflict: the version is archived."""
    if model["status"] == ModelStatus.ARCHIVED:
        raise Conflict(
            f"{model['name']} {model['version']} is archived: set its status to 'active' to change it.",
            status=model["status"],
        )


def check_revision(document: Described | Deployment, revisions: Collection[int] | None) -> None:
    """Check that the revision is one of these. Raises: PreconditionFailed."""
    if revisions is not None and document["revision"] not in revisions:
        raise PreconditionFailed(
            "It has changed: read it again, and send its ETag in If-Match.",
            etag=f'"r{document["revision"]}"',
            revision=document["revision"],
        )


def check_transition(kind: str, status: S, wanted: str, transitions: Mapping[S, Collection[S]]) -> None:
    """Check a change of status. Raises: Conflict: ``wanted`` may not follow ``status``."""
    allowed = transitions[status]
    if wanted != status and wanted not in allowed:
        choice = " or ".join(repr(str(one)) for one in sorted(allowed)) or "nothing else"
        raise Conflict(
            f"A {kind} that is {status!s} can become {choice}, not {wanted!s}.",
            status=status,
            allowed=sorted(allowed),
        )
