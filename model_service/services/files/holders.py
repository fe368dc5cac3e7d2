"""Holders of files: model versions and datasets. ``HeldFiles`` works with either."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from model_service.actor import Permission, may_read, require
from model_service.errors import Conflict
from model_service.services.common.references import Kind, query_of
from model_service.services.models.models import ModelService
from model_service.services.models.origins import Origins
from model_service.services.models.replacement import MAX_NAMED, OTHERS, Dependent
from model_service.services.models.rules import require_not_archived, require_writable
from model_service.storage.common.db import Session
from model_service.storage.common.documents import FileHolder, StoredId
from model_service.storage.common.file_entries import FilesEdit
from model_service.storage.datasets.documents import Dataset
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores
from model_service.storage.versioned.records import Change

H = TypeVar("H", bound=FileHolder)
Edit = Callable[[H], FilesEdit]


class Holder(Protocol[H]):
    """One kind of document with ``files``, ``file_metadata`` and ``size_bytes``."""

    kind: Kind

    def get(self, reference: str) -> H:
        """Return a document. Raises: MalformedId, NotFound."""

    def get_for_file(self, reference: str, path: str | None) -> H:
        """Like ``get``, with at least those of its files that a change at the path may affect."""

    def require_takes_files(self, document: H, reference: str) -> None:
        """Check that the caller may change the files. Raises: NotFound, NotPermitted, Conflict."""

    def changing(self, document_id: StoredId) -> AbstractContextManager[object]:
        """Return a context manager that encloses the transaction that changes the document."""

    def dependents(self, document: H, session: Session | None) -> list[Dependent]:
        """Return the documents that depend on its files, at most MAX_NAMED of each kind."""

    def change_file(
        self, document_id: StoredId, path: str, edit: Edit[H], session: Session, *, action: str
    ) -> Change[H] | None:
        """Change the file at a path as ``edit`` decides; None if there is no such document."""


class ModelHolder:
    kind: Kind = "model"

    def __init__(self, stores: Stores, models: ModelService) -> None:
        self._models = models
        self._stored = stores.models
        self._dependents = stores.dependents
        self._gates = stores.gates

    def get(self, reference: str) -> Model:
        return self._models.get(reference)

    def get_for_file(self, reference: str, path: str | None) -> Model:
        found = self._stored.find_for_file(query_of(self.kind, reference), path)
        if found is None or not may_read(found["name"]):
            raise self._models.missing(reference)
        return found

    def require_takes_files(self, document: Model, reference: str) -> None:
        require_writable(document, reference)
        require_not_archived(document)
        if gated := self._gates.gated(document["name"], document.get("aliases", ())):
            raise Conflict(
                f"{document['name']} {document['version']} has the alias {gated[0]!r}, which has a gate: "
                "store other files in a new version, and move the alias there.",
                alias=gated[0],
            )

    def changing(self, document_id: StoredId) -> AbstractContextManager[object]:
        return self._stored.changing(document_id)

    def dependents(self, document: Model, session: Session | None) -> list[Dependent]:
        exports = self._dependents.exports_of(document["_id"], session)
        job_ids = [job["_id"] for job in exports]
        return [
            *(Dependent("aliases", alias) for alias in document.get("aliases", ())),
            *(Dependent("exports", job["_id"], job["export_format"]) for job in exports[:MAX_NAMED]),
            *(
                Dependent("deployments", found["_id"], found["name"])
                for found in self._dependents.deployments_of(job_ids, session, MAX_NAMED)
            ),
        ]

    def change_file(
        self, document_id: StoredId, path: str, edit: Edit[Model], session: Session, *, action: str
    ) -> Change[Model] | None:
        return self._stored.change_file(document_id, path, edit, session, action=action)


class DatasetHolder:
    kind: Kind = "dataset"

    def __init__(self, stores: Stores, origins: Origins) -> None:
        self._origins = origins
        self._datasets = stores.datasets
        self._dependents = stores.dependents

    def get(self, reference: str) -> Dataset:
        return self._origins.dataset(reference)

    def get_for_file(self, reference: str, path: str | None) -> Dataset:
        dataset_id = self.get(reference)["_id"]
        return self._datasets.find_for_file({"_id": dataset_id}, path) or self.get(reference)

    def require_takes_files(self, document: Dataset, reference: str) -> None:
        self._origins.require_readable_dataset(document, reference)
        require(Permission.WRITE, document["name"])

    def changing(self, document_id: StoredId) -> AbstractContextManager[object]:
        return nullcontext()  # datasets are not cached

    def dependents(self, document: Dataset, session: Session | None) -> list[Dependent]:
        users = self._dependents.users_of(document["_id"], session, MAX_NAMED)
        readable = [(kind, found) for kind, found in users if may_read(found["name"])]
        shown = [Dependent(kind, str(found["_id"]), found["name"]) for kind, found in readable]
        return shown if len(readable) == len(users) else [*shown, Dependent("unreadable", OTHERS)]

    def change_file(
        self, document_id: StoredId, path: str, edit: Edit[Dataset], session: Session, *, action: str
    ) -> Change[Dataset] | None:
        return self._datasets.change_file(document_id, path, edit, session, action=action)
