"""A model's ETag, ``"r<revision>"``, and the conditions that requests put on it."""

import re

from flask import Response, request

_TAG = re.compile(r"r([0-9]{1,18})")


def etag(revision: int) -> str:
    """Without its quotes."""
    return f"r{revision}"


def demanded_revisions() -> frozenset[int] | None:
    """What ``If-Match`` allows; None where it is not sent, or ``*``. Another's tag matches nothing."""
    wanted = request.if_match
    if not wanted or wanted.star_tag:
        return None
    tags = (_TAG.fullmatch(tag) for tag in wanted.as_set())
    return frozenset(int(match[1]) for match in tags if match)


def not_modified(revision: int) -> Response | None:
    """304, where ``If-None-Match`` names the revision."""
    if not request.if_none_match.contains_weak(etag(revision)):
        return None
    return tagged(Response(status=304), revision)


def tagged(response: Response, revision: int) -> Response:
    response.set_etag(etag(revision))
    return response
