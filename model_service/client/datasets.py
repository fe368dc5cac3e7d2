"""Calls on datasets.

Each ``dataset_id`` is an id, ``NAME/v1.2`` or ``NAME/latest``, with or without the prefix ``datasets:/``.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_service.client.calls import Calls, wait
from model_service.client.errors import UnexpectedAnswer
from model_service.client.records import Page, named
from model_service.client.references import url_of
from model_service.client.transport.http import segment
from model_service.client.transport.progress import MakeBar
from model_service.client.transport.source import Uploadable
from model_service.client.transport.transfer import download
from model_service.client.types import Dataset, DeletedFile, FileMetadata
from model_service.client.uploads import Uploads, consent_to, path_segments
from model_service.states import InspectionStatus

DATASETS = "/api/v1/datasets"


class DatasetCalls(Calls):
    def register_dataset(self, dataset_data: str | Mapping[str, Any] | None = None, **fields: Any) -> Dataset:
        """Register a version of a dataset.

        ``dataset_data`` is its name, or a mapping with ``name`` and other fields: version, description,
        purpose, format, task_type, num_samples, schema, statistics, source, license, tags, created_by. Fields
        may also be passed as keywords.

        Raises:
            Conflict: this name and version exist already.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        return Dataset.from_json(self._transport.create(DATASETS, named(dataset_data, fields)))

    def get_dataset(self, dataset_id: str) -> Dataset:
        return Dataset.from_json(self._transport.json("GET", _url(dataset_id)))

    def wait_for_dataset(self, dataset_id: str, *, timeout_s: float = 300) -> Dataset:
        """Wait until a worker has inspected the dataset's file; its ``summary`` says what is in it.

        Returns at once if the dataset has no file in a known format.

        Raises:
            WaitTimedOut: the file was not inspected within ``timeout_s``.
        """

        def inspected(dataset: Dataset) -> bool:
            return (dataset.summary or {}).get("status") != InspectionStatus.PENDING

        return wait(lambda: self.get_dataset(dataset_id), inspected, timeout_s)

    def list_datasets(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[Dataset]:
        """Return one page. Filters: name, purpose, format, task_type, tags (any of them), created_by."""
        return self._page(DATASETS, "datasets", Dataset, {"page": page, "limit": limit, **filters})

    def update_dataset(self, dataset_id: str, **changes: Any) -> Dataset:
        return Dataset.from_json(self._transport.json("PUT", _url(dataset_id), data=changes))

    def delete_dataset(self, dataset_id: str) -> dict[str, Any]:
        """Delete a version. NotFound may mean that an earlier try, whose response was lost, deleted it.

        Raises:
            Conflict: a training job or a model refers to it.
        """
        return self._transport.json("DELETE", _url(dataset_id))

    def dataset_usage(self, dataset_id: str, *, limit: int | None = None) -> dict[str, Any]:
        """Return the newest ``training_jobs`` that used it, with its ``roles``, and ``models`` made from
        it.
        """
        return self._transport.json("GET", f"{_url(dataset_id)}/usage", query={"limit": limit})

    def upload_dataset(
        self,
        dataset_id: str,
        path: Uploadable,
        *,
        filename: str | None = None,
        replace: bool = False,
        confirm: Sequence[str] = (),
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Upload a dataset's file as a stream, and compare checksums. A stored file is not sent again.

        Args:
            replace: replace another file, which is moved to the trash.
            confirm: what depends on the version, as listed in the error's ``details["confirm"]``.

        Raises:
            Conflict: as for ``upload_model``; training jobs and models depend on a dataset.
            ChecksumMismatch: the service stored other bytes than were sent.
            TransferFailed: the file became shorter while it was sent.
            NoSuchFile: there is no such file.
            InvalidArgument: the file is empty.
            OSError: the file cannot be read.
        """
        return self._to_dataset(dataset_id, replace, confirm, progress).own(path, filename)

    def upload_dataset_file(
        self,
        dataset_id: str,
        source: Uploadable,
        *,
        path: str | None = None,
        replace: bool = False,
        confirm: Sequence[str] = (),
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Upload a file to a path in the dataset, by default its name; otherwise like ``upload_dataset``."""
        return self._to_dataset(dataset_id, replace, confirm, progress).at(source, path)

    def _to_dataset(
        self, dataset_id: str, replace: bool, confirm: Sequence[str], progress: bool | MakeBar | None
    ) -> Uploads:
        consent, bar = consent_to(replace, confirm), self._bar_for(progress)
        return Uploads(self._transport, _url(dataset_id), consent, bar, in_parts=False)

    def list_dataset_files(self, dataset_id: str) -> list[FileMetadata]:
        answer = self._transport.json("GET", f"{_url(dataset_id)}/files")
        if not isinstance(answer.get("files"), list):
            raise UnexpectedAnswer("The service's response is not a list of files.")
        return [FileMetadata.from_json(file) for file in answer["files"]]

    def delete_dataset_file(
        self, dataset_id: str, path: str, *, confirm: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Move a file to the trash; ``confirm`` as for ``upload_dataset``."""
        query = consent_to(False, confirm)
        return self._transport.json("DELETE", _file_url(dataset_id, path), query=query)

    def list_deleted_dataset_files(
        self, dataset_id: str, *, page: int | None = None, limit: int | None = None
    ) -> Page[DeletedFile]:
        """Return the replaced and deleted files that can be restored, the last one first."""
        url = f"{_url(dataset_id)}/deleted-files"
        return self._page(url, "files", DeletedFile, {"page": page, "limit": limit})

    def restore_dataset_file(
        self, dataset_id: str, file_id: str, *, replace: bool = False, confirm: Sequence[str] = ()
    ) -> FileMetadata:
        """Restore a deleted file to its path; ``replace`` and ``confirm`` as for ``upload_dataset``."""
        url = f"{_url(dataset_id)}/deleted-files/{segment(file_id)}/restore"
        answer = self._transport.json("POST", url, query=consent_to(replace, confirm))
        return FileMetadata.from_json(answer.get("file"))

    def purge_dataset_file(self, dataset_id: str, file_id: str) -> dict[str, Any]:
        """Remove a deleted file permanently."""
        return self._transport.json("DELETE", f"{_url(dataset_id)}/deleted-files/{segment(file_id)}")

    def download_dataset(
        self,
        dataset_id: str,
        output_path: str | os.PathLike[str],
        *,
        path: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> Path:
        """Download a dataset's file, or the one at ``path``; otherwise like ``download_model``."""
        url = f"{_url(dataset_id)}/download" if path is None else _file_url(dataset_id, path)
        return download(self._transport, url, output_path, self._bar_for(progress))


def _url(dataset_id: str) -> str:
    return url_of("datasets", dataset_id)


def _file_url(dataset_id: str, path: str) -> str:
    return f"{_url(dataset_id)}/files/{path_segments(path)}"
