"""Conversion of model documents to JSON responses.

``schemas.models.Model`` declares the response; this module builds it without validating the stored document,
because validation would dominate the time of a list of a hundred models. A test compares the two.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson
from flask import Response, current_app
from pydantic import BaseModel

from model_service.api.schemas.models import FileMetadata, Model, StoredPath
from model_service.api.schemas.statistics import size_text


def _defaults(answer: type[BaseModel], *made_here: str) -> dict[str, Any]:
    """Return the default values of response fields that a document does not have."""
    fields = answer.model_fields.items()
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
        for name, field in fields
        if name not in made_here
    }


Stored = Mapping[str, Any]
PRESENTED = "presented_models"  # the key in ``app.extensions``
PRESENTED_BYTES = 16 * 1024 * 1024
_MODEL = _defaults(Model, "id", "model_size", "files", "file_metadata")
_FILE = _defaults(StoredPath)
_PRIMARY_FILE = _defaults(FileMetadata)


def model_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Model`` for a stored document, ready for ``to_json``."""
    primary = document.get("file_metadata")
    return {
        "id": document["_id"],
        **_read(document, _MODEL),
        "model_size": size_text(document.get("size_bytes", 0)),
        "files": [_read(file, _FILE) for file in document["files"]],
        "file_metadata": primary and _read(primary, _PRIMARY_FILE),
    }


def _read(document: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    read = document.get
    return {name: read(name, default) for name, default in defaults.items()}


def to_json(body: Any) -> bytes:
    """Convert database ids to text, and times to RFC 3339 in UTC."""
    return orjson.dumps(body, default=str, option=orjson.OPT_UTC_Z)


def model_bytes(document: Mapping[str, Any]) -> bytes:
    return to_json(model_json(document))


def answer_json(body: Any, status: int = 200) -> Response:
    return json_response(to_json(body), status)


def json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


def presented() -> "PresentedModels":
    """Return the application's cache."""
    return cast(PresentedModels, current_app.extensions[PRESENTED])


class PresentedModels:
    """LRU cache of model responses for lists: a revision always has the same response.

    Lists read only ids and revisions from MongoDB, and the documents that are not in this cache. Safe to use
    from any thread.
    """

    def __init__(self) -> None:
        self._answers: dict[Any, tuple[Any, bytes]] = {}
        self._size_bytes = 0
        self._lock = threading.Lock()

    def of(self, stubs: Sequence[Stored], load: Callable[[list[Any]], Sequence[Stored]]) -> list[bytes]:
        """Return the responses for the models that a list found, in its order; deleted ones are left out.

        Args:
            stubs: as in ``services.models.search.Found``.
            load: reads the documents with these ids, in any order.
        """
        bodies: dict[Any, bytes] = {}
        for stub in stubs:
            state, body = self._answers.get(stub["_id"], (None, b""))
            if state == _state(stub):
                bodies[stub["_id"]] = body
            elif "files" in stub:
                bodies[stub["_id"]] = self._present(stub)
        missing = [stub["_id"] for stub in stubs if stub["_id"] not in bodies]
        for document in load(missing) if missing else ():
            bodies[document["_id"]] = self._present(document)
        return [bodies[stub["_id"]] for stub in stubs if stub["_id"] in bodies]

    def _present(self, document: Stored) -> bytes:
        body = model_bytes(document)
        with self._lock:
            self._forget(document["_id"])
            self._answers[document["_id"]] = (_state(document), body)
            self._size_bytes += len(body)
            while self._size_bytes > PRESENTED_BYTES:
                self._forget(next(iter(self._answers)))
        return body

    def _forget(self, model_id: Any) -> None:
        before = self._answers.pop(model_id, None)
        if before is not None:
            self._size_bytes -= len(before[1])


def _state(document: Stored) -> Any:
    """Return what changes without a new revision: the download count and the scan result."""
    return document["revision"], document["download_count"], document["updated_at"], document.get("scans")
