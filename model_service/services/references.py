"""What names a model: its id, or a reference to a version of a name.

    models:/NAME/v1.2   models:/NAME/1.2   that version
    models:/NAME@ALIAS                     the version that has the alias
    models:/NAME/latest                    the highest version that is not archived

``NAME`` may hold a namespace: ``models:/vision/digits@production``. Whatever takes a model's id takes these.
"""

import re
from dataclasses import dataclass

from model_service.errors import InvalidField, InvalidRequest
from model_service.services.ids import parse_model_id
from model_service.states import ModelStatus
from model_service.storage.db import Document

SCHEME = "models:/"
LATEST = "latest"
MINORS = 10**6  # minor versions in a major one
VERSION = re.compile(r"v(0|[1-9][0-9]{0,11})(?:\.(0|[1-9][0-9]{0,5}))?")
ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSION_LIKE = re.compile(r"v?[0-9]+(\.[0-9]+)?", re.IGNORECASE)
NAME = r"(?:[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}"
_REFERENCE = re.compile(
    rf"models:/(?P<name>{NAME})(?:@(?P<alias>[A-Za-z0-9_.-]{{1,64}})|/(?P<version>latest|v?[0-9.]+))"
)


@dataclass(frozen=True)
class Reference:
    """A version of a name: by ``alias``, by ``version_order``, or, with neither, the latest."""

    name: str
    alias: str | None = None
    version_order: int | None = None

    def query(self) -> Document:
        """What the document matches; of several, the highest version is meant."""
        if self.alias is not None:
            return {"name": self.name, "aliases": self.alias}
        if self.version_order is not None:
            return {"name": self.name, "version_order": self.version_order}
        return {"name": self.name, "status": {"$ne": ModelStatus.ARCHIVED}}


def is_reference(text: str) -> bool:
    return text.startswith(SCHEME)


def parse_reference(text: str) -> Reference:
    """Raises: InvalidRequest: it begins like a reference and is none."""
    match = _REFERENCE.fullmatch(text)
    if match is not None:
        name, alias, version = match.group("name", "alias", "version")
        if alias is not None or version == LATEST:
            return Reference(name, alias)
        if parsed := VERSION.fullmatch("v" + version.removeprefix("v")):
            return Reference(name, version_order=_order(parsed))
    raise InvalidRequest(
        f"{text[:300]!r} refers to no model: models:/NAME/v1.2, models:/NAME@ALIAS or models:/NAME/latest.",
        id=text[:300],
    )


def query_of(text: str) -> Document:
    """What the model that an id or a reference names matches. Raises: MalformedId, InvalidRequest."""
    return parse_reference(text).query() if is_reference(text) else {"_id": parse_model_id(text)}


def version_order(version: str) -> int:
    """A number that sorts as versions do: v2.10 after v2.9.

    Raises:
        InvalidField: not a version.
    """
    match = VERSION.fullmatch(version)
    if match is None:
        raise InvalidField.of(
            "version", "v and a number, or v and two: v1, v1.0", wrong=f"{version[:40]!r} is no version"
        )
    return _order(match)


def following(newest: int | None, *, breaking: bool = False) -> str:
    """The version after the one of that order: the next minor one, or the next major; v1.0 after none."""
    if newest is None:
        return "v1.0"
    order = (newest // MINORS + 1) * MINORS if breaking else newest + 1
    major, minor = divmod(order, MINORS)
    return f"v{major}.{minor}"


def check_alias(alias: str) -> str:
    """Raises: InvalidField: it is no alias, or could be taken for a version."""
    if ALIAS.fullmatch(alias) and alias != LATEST and not _VERSION_LIKE.fullmatch(alias):
        return alias
    message = "1 to 64 letters, digits, '_', '-' and '.'; not 'latest', and nothing like a version"
    raise InvalidField.of("alias", message, wrong=f"{alias[:70]!r} is no alias")


def _order(match: re.Match[str]) -> int:
    return int(match[1]) * MINORS + int(match[2] or 0)
