"""Calls on models."""

import os
from pathlib import Path
from typing import Any, BinaryIO

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.http import segment
from model_service.client.progress import MakeBar
from model_service.client.transfer import download, upload
from model_service.client.types import FileMetadata, Model, Page

MODELS = "/api/v1/models"


class ModelCalls(Calls):
    def register_model(self, model_data: dict[str, Any]) -> str:
        """The id of the new version. ``name`` and ``algorithm`` are required; a missing version is chosen.

        Raises:
            Conflict: this name and version exist already.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        answer = self._transport.json("POST", MODELS, data=model_data)
        if not isinstance(answer.get("model_id"), str):
            raise UnexpectedAnswer("The service registered a model and did not say its id.")
        return str(answer["model_id"])

    def upload_model(
        self,
        model_id: str,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        filename: str | None = None,
        progress: bool | MakeBar | None = None,
    ) -> FileMetadata:
        """Sends a model's file, streamed, and compares checksums.

        Raises:
            ChecksumMismatch: the service holds other bytes than were sent.
            TransferFailed: the file became shorter while it was sent.
            NoSuchFile: there is no such file.
            InvalidArgument: the file is empty.
            OSError: the file cannot be read.
        """
        url = f"{MODELS}/{segment(model_id)}/upload"
        answer = upload(self._transport, url, path, filename, self._bar_for(progress))
        return FileMetadata.from_json(answer["file_metadata"])

    def download_model(
        self, model_id: str, output_path: str | os.PathLike[str], *, progress: bool | MakeBar | None = None
    ) -> Path:
        """Fetches a model's file. ``output_path`` is replaced in one step, after the checksum was compared.

        Raises:
            ChecksumMismatch: the bytes are damaged; no file is left.
            TransferFailed: the connection broke too often; no file is left.
            OSError: the file cannot be written.
        """
        url = f"{MODELS}/{segment(model_id)}/download"
        return download(self._transport, url, output_path, self._bar_for(progress))

    def get_model(self, model_id: str) -> Model:
        return Model.from_json(self._transport.json("GET", f"{MODELS}/{segment(model_id)}"))

    def list_models(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[Model]:
        """One page. Filters: algorithm, framework, task_type, status, name, tags (any of them), created_by,
        min_accuracy."""
        return self._page(MODELS, "models", Model, {"page": page, "limit": limit, **filters})

    def search_models(self, **filters: Any) -> list[Model]:
        """Every match, page by page; with ``page`` or ``limit`` among the filters, that page only."""
        found = self.list_models(**filters)
        # By id: a model registered meanwhile moves the others on, and one would be met twice.
        models = {model.id: model for model in found}
        if not {"page", "limit"} & filters.keys():
            for number in range(2, found.pages + 1):
                page = self.list_models(**filters, page=number, limit=found.limit)
                models |= {model.id: model for model in page}
        return list(models.values())

    def update_model(self, model_id: str, **changes: Any) -> Model:
        return Model.from_json(self._transport.json("PUT", f"{MODELS}/{segment(model_id)}", data=changes))

    def delete_model(self, model_id: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion."""
        return self._transport.json("DELETE", f"{MODELS}/{segment(model_id)}")
