"""A model's ETag, ``"r<revision>"``, and the conditional headers of requests."""

import re

from flask import Response, request

_TAG = re.compile(r"r([0-9]{1,18})")


def etag(revision: int) -> str:
    """Return the ETag of a revision, without its quotes."""
    return f"r{revision}"


def demanded_revisions() -> frozenset[int] | None:
    """Return the revisions that ``If-Match`` allows; None without it, or with ``*``."""
    wanted = request.if_match
    if not wanted or wanted.star_tag:
        return None
    tags = (_TAG.fullmatch(tag) for tag in wanted.as_set())
    return frozenset(int(match[1]) for match in tags if match)


def not_modified(revision: int) -> Response | None:
    """Return a 304 if ``If-None-Match`` has the revision."""
    if not request.if_none_match.contains_weak(etag(revision)):
        return None
    return tagged(Response(status=304), revision)


def tagged(response: Response, revision: int) -> Response:
    response.set_etag(etag(revision))
    return response
