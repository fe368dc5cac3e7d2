"""The header ``Idempotency-Key`` of requests that create something."""

import hashlib
import re

import orjson
from flask import Response, request

from model_service.api.http.request_body import JSONRequest
from model_service.errors import InvalidRequest
from model_service.services.common.idempotency import Once

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_VALID = re.compile(r"[\x21-\x7e]{1,255}")


def requested_once(*, without: str | None = None) -> Once | None:
    """Return the request's key and a digest of its content; None without a key. Reads the JSON body.

    Args:
        without: a field that is left out of the digest, such as a password, which could be guessed from it.

    Raises:
        InvalidRequest: the key is empty, longer than 255 characters, or not plain ASCII.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _VALID.fullmatch(key):
        raise InvalidRequest(f"{HEADER} must be 1 to 255 visible ASCII characters, for example a UUID.")
    fields = request.get_json()
    if isinstance(request, JSONRequest) and request.body_is_absent:
        fields = None
    if without is not None and isinstance(fields, dict):
        fields = {name: value for name, value in fields.items() if name != without}
    body = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return Once(key, f"{request.method} {request.path}", hashlib.sha256(body).hexdigest())


def mark(response: Response, once: Once | None) -> Response:
    """Add the header Idempotency-Replayed to a repeated response."""
    if once is not None and once.replayed:
        response.headers[REPLAYED] = "true"
    return response
