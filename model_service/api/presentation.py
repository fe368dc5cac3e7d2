"""Model documents as they are answered, one or a hundred.

``schemas.models.Model`` says what an answer holds; this makes it without validating what was stored:
for a list of a hundred that would cost more than everything else together. A test holds the two together.
"""

from typing import Any

import orjson
from flask import Response
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
