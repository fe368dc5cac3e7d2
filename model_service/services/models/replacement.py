"""Consent for replacing a published file: one rule for every route that stores or removes a file.

- The same bytes at the same path change nothing.
- A first file, or a file at a new path, needs no consent.
- Other bytes at a path that has a file need ``replace``.
- If something depends on the version (an alias, an export, a deployment; for a dataset a training job or a
  model), each dependent must be confirmed by name before a file is replaced or removed, or the primary file
  changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import TypedDict

from model_service.errors import ConfirmationRequired, WouldReplace
from model_service.storage.common.db import Session
from model_service.storage.common.documents import BlobReference, FileHolder, StoredFile
from model_service.storage.common.file_entries import FilesEdit

# Maximum number of named dependents of each kind, which keeps an error message readable.
MAX_NAMED = 50
# Stands for the dependents that the caller may not read.
OTHERS = "others"


@dataclass(frozen=True)
class Consent:
    """Consent of a request: whether files may be replaced, and the dependents that it confirmed."""

    replace: bool = False
    confirmed: frozenset[str] = frozenset()

    def __or__(self, other: "Consent") -> "Consent":
        return Consent(self.replace or other.replace, self.confirmed | other.confirmed)


NOTHING = Consent()


@dataclass(frozen=True)
class Dependent:
    """A document that depends on the files. ``kind`` is plural (``aliases``); a confirmation names ``id``."""

    kind: str
    id: str
    name: str | None = None


H = TypeVar("H", bound=FileHolder)
# Finds the dependents of a document, in the transaction that changes it.
FindDependents = Callable[[H, Session | None], Sequence[Dependent]]


def require_consent(
    holder: H,
    edit: FilesEdit,
    consent: Consent,
    find_dependents: FindDependents[H],
    session: Session | None,
) -> None:
    """Reject an edit of a holder's files without the consent that it needs.

    Args:
        holder: the result of ``find_for_file``, before the edit.

    Raises:
        WouldReplace: ``details`` has both checksums, and the dependents to confirm.
        ConfirmationRequired: ``details.confirm`` names the dependents of the version.
    """
    lost = lost_files(holder, edit)
    before, after = _checksum(holder["file_metadata"]), _checksum(edit.primary)
    if not lost and (before is None or before == after):
        return
    dependents = find_dependents(holder, session)
    needed = sorted({dependent.id for dependent in dependents})
    if lost and edit.put is not None and not consent.replace:
        raise _would_replace(holder, edit.put, lost[0], needed)
    if missing := [name for name in needed if name not in consent.confirmed]:
        raise _unconfirmed(holder, dependents, needed, missing)


def lost_files(holder: FileHolder, edit: FilesEdit) -> list[StoredFile]:
    """Return the files that a holder loses by the edit, as they were."""
    put = edit.put
    return [
        file
        for file in holder["files"]
        if file["path"] in edit.removed
        or (put is not None and file["path"] == put["path"] and file["checksum"] != put["checksum"])
    ]


def _would_replace(
    holder: FileHolder, put: StoredFile, present: StoredFile, needed: list[str]
) -> WouldReplace:
    path = present["path"]
    label = f"{holder['name']} {holder['version']}"
    sent = f"the file sent for {put['path']} has {put['checksum']}"
    if present["checksum"] == put["checksum"]:
        sent = f"the same bytes were sent for {put['path']}"
    return WouldReplace(
        f"{label} already has {path} with {present['checksum']}; {sent}. Nothing was changed: with "
        "replace=true the present file moves to the trash; a new version keeps both.",
        path=path,
        checksum=present["checksum"],
        sent_path=put["path"],
        sent_checksum=put["checksum"],
        confirm=needed,
    )


class _Shown(TypedDict):
    id: str
    name: str | None


def _unconfirmed(
    holder: FileHolder, dependents: Sequence[Dependent], needed: list[str], missing: list[str]
) -> ConfirmationRequired:
    by_kind: dict[str, list[_Shown]] = {}
    for dependent in dependents:
        by_kind.setdefault(dependent.kind, []).append({"id": dependent.id, "name": dependent.name})
    # One kind after the other: "aliases production; deployments 5b1c… (digits)".
    named = "; ".join(
        f"{kind.replace('_', ' ')} {', '.join(_label(one) for one in found)}"
        for kind, found in by_kind.items()
    )
    return ConfirmationRequired(
        f"{holder['name']} {holder['version']} is in use: {named}. Nothing was changed: create a "
        f"new version instead; or, to change this one, confirm each: confirm={','.join(needed)}.",
        confirm=needed,
        unconfirmed=missing,
        dependents=by_kind,
    )


def _label(dependent: _Shown) -> str:
    return f"{dependent['id']} ({dependent['name']})" if dependent["name"] else str(dependent["id"])


def _checksum(reference: BlobReference | None) -> str | None:
    return reference["checksum"] if reference is not None else None
