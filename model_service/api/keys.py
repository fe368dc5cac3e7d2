"""/api/v1/keys"""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, page_limit, services
from model_service.api.idempotency import mark, requested_once
from model_service.api.schemas.access import (
    CreatedKey,
    Key,
    KeyPage,
    KeyPath,
    KeyQuery,
    NewKey,
    Rotation,
)
from model_service.api.schemas.common import Deleted, JSONObject, Pagination

api = APIBlueprint("keys", __name__, url_prefix="/api/v1/keys", abp_tags=[Tag(name="access")])


def _created(stored: JSONObject, text: str) -> CreatedKey:
    return CreatedKey(**Key.of(stored).model_dump(), key=text)


@api.post("", responses={201: CreatedKey})
def create_key(body: NewKey) -> Response:
    """Make a key of mine, or, by an administrator, of another owner. The answer holds its text, this once.

    With Idempotency-Key, once however often it is sent: a repetition is answered with the same text.
    """
    once = requested_once()
    stored, text = services().keys.create(**body.model_dump(), once=once)
    return mark(answer(_created(stored, text), 201), once)


@api.get("", responses={200: KeyPage})
def list_keys(query: KeyQuery) -> Response:
    """List my keys, newest first; an administrator sees everybody's."""
    page = services().keys.search(query.owner, query.page, page_limit(query))
    return answer(KeyPage(keys=[Key.of(item) for item in page.items], pagination=Pagination.of(page)))


@api.get("/<key_id>", responses={200: Key})
def get_key(path: KeyPath) -> Response:
    """Read one key, without its text."""
    return answer(Key.of(services().keys.get(path.key_id)))


@api.post("/<key_id>/rotate", responses={200: CreatedKey})
def rotate_key(path: KeyPath, body: Rotation) -> Response:
    """Give the key another text, this once; the present one works for grace_s more."""
    stored, text = services().keys.rotate(path.key_id, body.grace_s)
    return answer(_created(stored, text))


@api.delete("/<key_id>", responses={200: Deleted})
def delete_key(path: KeyPath) -> Response:
    """Revoke the key."""
    services().keys.delete(path.key_id)
    return answer(Deleted(message="Key deleted successfully", deleted_id=path.key_id))
