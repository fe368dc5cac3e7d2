"""Validation of stored documents against the types of their collections."""

from functools import cache

from pydantic import TypeAdapter, ValidationError

from model_service.storage.common.collections import DOCUMENT_TYPES
from model_service.storage.common.documents import Fields
from model_service.storage.migrations.base import BLOBS

# The types by the names that migrations use, except for the chunks, whose bytes the verification reads.
CHECKED = {
    BLOBS if name == "files" else name: document
    for name, document in DOCUMENT_TYPES.items()
    if name != "chunks"
}


def check_document(collection: str, document: Fields) -> None:
    """Validate a document. Raises: ValueError: one line with the missing or wrong field and the problem."""
    try:
        _adapter(collection).validate_python(document, strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{field}: {first['msg']}") from None


@cache
def _adapter(collection: str) -> TypeAdapter[Fields]:
    return TypeAdapter(CHECKED[collection])
