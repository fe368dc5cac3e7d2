"""/api/v1/keys"""

from collections.abc import Mapping
from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.access import (
    CreatedKey,
    Key,
    KeyPage,
    KeyPath,
    KeyQuery,
    NewKey,
    Rotation,
)
from model_service.api.schemas.common import Deleted, Pagination

api = APIBlueprint("keys", __name__, url_prefix="/api/v1/keys", abp_tags=[Tag(name="access")])


def _created(stored: Mapping[str, Any], text: str) -> CreatedKey:
    return CreatedKey(**Key.of(stored).model_dump(), key=text)


@api.post("", responses={201: CreatedKey})
@policy(Caller.IDENTIFIED)
def create_key(body: NewKey) -> Response:
    """Create an API key.

    For the caller, or, by an administrator, for another `owner`. A key can be limited to scopes and
    namespaces, and expire. The response contains its text in `key`, which cannot be read again.
    `Idempotency-Key` is supported and returns the same text.
    """
    once = requested_once()
    stored, text = services().keys.create(**body.model_dump(), once=once)
    return mark(answer(_created(stored, text), 201), once)


@api.get("", responses={200: KeyPage})
@policy(Caller.IDENTIFIED)
def list_keys(query: KeyQuery) -> Response:
    """List API keys.

    The caller's keys, newest first, without their texts. An administrator gets those of all users, or of
    one `owner`.
    """
    page = services().keys.search(query.owner, query.page, page_limit(query))
    return answer(KeyPage(keys=[Key.of(item) for item in page.items], pagination=Pagination.of(page)))


@api.get("/<key_id>", responses={200: Key})
@policy(Caller.IDENTIFIED)
def get_key(path: KeyPath) -> Response:
    """Read an API key.

    Returns its name, scopes, namespaces and times, without its text.
    """
    return answer(Key.of(services().keys.get(path.key_id)))


@api.post("/<key_id>/rotate", responses={200: CreatedKey})
@policy(Caller.IDENTIFIED)
def rotate_key(path: KeyPath, body: Rotation) -> Response:
    """Replace the text of an API key.

    Returns the new text once. The old text works for `grace_s` more seconds (0).
    """
    stored, text = services().keys.rotate(path.key_id, body.grace_s)
    return answer(_created(stored, text))


@api.delete("/<key_id>", responses={200: Deleted})
@policy(Caller.IDENTIFIED)
def delete_key(path: KeyPath) -> Response:
    """Revoke an API key.

    The key stops working in every process within 2 seconds.
    """
    services().keys.delete(path.key_id)
    return answer(Deleted(message="Key deleted successfully", deleted_id=path.key_id))
