"""Model documents as they are answered, one or a hundred.

``schemas.models.Model`` says what an answer holds; this makes it without validating what was stored:
for a list of a hundred that would cost more than everything else together. A test holds the two together.
"""

import threading
from collections.abc import Callable
from typing import Any, cast

import orjson
from flask import Response, current_app
from pydantic import BaseModel

from model_service.api.schemas.models import FileMetadata, Model, StoredPath
from model_service.api.schemas.statistics import size_text


def _defaults(answer: type[BaseModel], *made_here: str) -> dict[str, Any]:
    """The fields of an answer with what they are where a document has none."""
    fields = answer.model_fields.items()
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
        for name, field in fields
        if name not in made_here
    }


Document = dict[str, Any]
PRESENTED = "presented_models"  # the application's extension
PRESENTED_BYTES = 16 * 1024 * 1024
_MODEL = _defaults(Model, "id", "model_size", "files", "file_metadata")
_FILE = _defaults(StoredPath)
_PRIMARY_FILE = _defaults(FileMetadata)


def model_json(document: dict[str, Any]) -> dict[str, Any]:
    """What ``Model`` shows of a stored document, ready for ``to_json``."""
    primary = document.get("file_metadata")
    return {
        "id": document["_id"],
        **_read(document, _MODEL),
        "model_size": size_text(document.get("size_bytes", 0)),
        "files": [_read(file, _FILE) for file in document["files"]],
        "file_metadata": primary and _read(primary, _PRIMARY_FILE),
    }


def _read(document: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    read = document.get
    return {name: read(name, default) for name, default in defaults.items()}


def to_json(body: Any) -> bytes:
    """Ids of the database become text, times RFC 3339 in UTC."""
    return orjson.dumps(body, default=str, option=orjson.OPT_UTC_Z)


def model_bytes(document: dict[str, Any]) -> bytes:
    return to_json(model_json(document))


def answer_json(body: Any, status: int = 200) -> Response:
    return json_response(to_json(body), status)


def json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


def presented() -> "PresentedModels":
    """The application's own."""
    return cast(PresentedModels, current_app.extensions[PRESENTED])


class PresentedModels:
    """What models were answered with lately, for lists: a revision is answered in the same way every time.

    Lists ask MongoDB for ids and revisions, and for the documents of those alone that are not here. Safe to
    use from any thread.
    """

    def __init__(self) -> None:
        self._answers: dict[Any, tuple[Any, bytes]] = {}
        self._size_bytes = 0
        self._lock = threading.Lock()

    def of(self, stubs: list[Document], load: Callable[[list[Any]], list[Document]]) -> list[bytes]:
        """The answers about what a list found, in its order; without what was deleted meanwhile.

        Args:
            stubs: as of ``services.models.search.Found``.
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

    def _present(self, document: Document) -> bytes:
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


def _state(document: Document) -> Any:
    """Downloads are counted, and files scanned, without a new revision."""
    return document["revision"], document["download_count"], document["updated_at"], document.get("scans")
