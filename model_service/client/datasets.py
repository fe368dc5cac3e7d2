"""Calls on datasets. Each ``dataset_id`` is an id, ``NAME/v1.2`` or ``NAME/latest``, with or without
``datasets:/`` in front."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import InvalidArgument, UnexpectedAnswer
from model_service.client.files import path_segments, verified
from model_service.client.progress import MakeBar
from model_service.client.records import Page, named
from model_service.client.references import url_of
from model_service.client.source import Uploadable, opened
from model_service.client.transfer import download, header_value, upload
from model_service.client.types import Dataset, FileMetadata

DATASETS = "/api/v1/datasets"


class DatasetCalls(Calls):
    def register_dataset(self, dataset_data: str | Mapping[str, Any] | None = None, **fields: Any) -> Dataset:
        """A new version. ``dataset_data`` is its name, or a mapping with ``name`` and other fields: version,
        description, purpose, format, task_type, num_samples, schema, statistics, source, license, tags,
        created_by. Fields may also be given as keywords.

        Raises:
            Conflict: this name and version exist already.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        return Dataset.from_json(self._transport.create(DATASETS, named(dataset_data, fields)))

    def get_dataset(self, dataset_id: str) -> Dataset:
        return Dataset.from_json(self._transport.json("GET", _url(dataset_id)))

    def list_datasets(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[Dataset]:
        """One page. Filters: name, purpose, format, task_type, tags (any of them), created_by."""
        return self._page(DATASETS, "datasets", Dataset, {"page": page, "limit": limit, **filters})

    def update_dataset(self, dataset_id: str, **changes: Any) -> Dataset:
        return Dataset.from_json(self._transport.json("PUT", _url(dataset_id), data=changes))

    def delete_dataset(self, dataset_id: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion.

        Raises:
            Conflict: a training job or a model names it.
        """
        return self._transport.json("DELETE", _url(dataset_id))

    def dataset_usage(self, dataset_id: str, *, limit: int | None = None) -> dict[str, Any]:
        """``training_jobs`` that used it, with its ``roles``, and ``models`` made from it: the newest."""
        return self._transport.json("GET", f"{_url(dataset_id)}/usage", query={"limit": limit})

    def upload_dataset(
        self,
        dataset_id: str,
        path: Uploadable,
        *,
        filename: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Sends a dataset's file, streamed, and compares checksums.

        Raises:
            ChecksumMismatch: the service holds other bytes than were sent.
            TransferFailed: the file became shorter while it was sent.
            NoSuchFile: there is no such file.
            InvalidArgument: the file is empty.
            OSError: the file cannot be read.
        """
        bar = self._bar_for(progress)
        with opened(path, filename) as source:
            if source.size_bytes == 0:
                raise InvalidArgument(f"{source.name} is empty: nothing was sent.")
            headers = {"X-Filename": header_value(source.name)}
            url = f"{_url(dataset_id)}/upload"
            answer, sent = upload(self._transport, "POST", url, source, bar, headers)
        return verified(answer.get("file_metadata"), sent, source)

    def upload_dataset_file(
        self,
        dataset_id: str,
        source: Uploadable,
        *,
        path: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Sends a file to a path in the dataset, by default its own name; otherwise as ``upload_dataset``."""
        bar = self._bar_for(progress)
        with opened(source, None) as opened_source:
            url = _file_url(dataset_id, path or opened_source.name)
            answer, sent = upload(self._transport, "PUT", url, opened_source, bar, {})
        return verified(answer.get("file"), sent, opened_source)

    def list_dataset_files(self, dataset_id: str) -> list[FileMetadata]:
        answer = self._transport.json("GET", f"{_url(dataset_id)}/files")
        if not isinstance(answer.get("files"), list):
            raise UnexpectedAnswer("The service's answer is no list of files.")
        return [FileMetadata.from_json(file) for file in answer["files"]]

    def delete_dataset_file(self, dataset_id: str, path: str) -> dict[str, Any]:
        return self._transport.json("DELETE", _file_url(dataset_id, path))

    def download_dataset(
        self,
        dataset_id: str,
        output_path: str | os.PathLike[str],
        *,
        path: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> Path:
        """Fetches a dataset's file, or the one at ``path``; otherwise as ``download_model``."""
        url = f"{_url(dataset_id)}/download" if path is None else _file_url(dataset_id, path)
        return download(self._transport, url, output_path, self._bar_for(progress))


def _url(dataset_id: str) -> str:
    return url_of("datasets", dataset_id)


def _file_url(dataset_id: str, path: str) -> str:
    return f"{_url(dataset_id)}/files/{path_segments(path)}"
