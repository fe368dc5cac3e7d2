"""References to a model version, a dataset version or a deployment in paths, queries and bodies.

    ID                        the document with this id
    NAME@ALIAS                the model version that has the alias
    NAME/v1.2  NAME/1.2       that version of a model or a dataset
    NAME/latest               the highest version; for models, the highest that is not archived
    NAME                      the deployment with that name or display name

Each form is accepted with or without its scheme: ``models:/``, ``datasets:/`` or ``deployments:/``. ``NAME``
may include a namespace: ``vision/digits@production``. A model's or dataset's name alone is rejected, because
the version would be a guess.
"""

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from typing_extensions import TypedDict

from model_service.errors import InvalidField, InvalidRequest, MalformedId
from model_service.services.common.deployment_names import is_plain
from model_service.states import ModelStatus
from model_service.storage.common.db import object_id
from model_service.storage.common.documents import Fields, StoredId

Kind = Literal["model", "dataset", "deployment"]

LATEST = "latest"
MINORS = 10**6  # number of minor versions within a major one
VERSION = re.compile(r"v(0|[1-9][0-9]{0,11})(?:\.(0|[1-9][0-9]{0,5}))?")
ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSION_LIKE = re.compile(r"v?[0-9]+(\.[0-9]+)?", re.IGNORECASE)
NAME = r"(?:[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}"
_REFERENCE = re.compile(
    rf"(?P<name>{NAME})(?:@(?P<alias>[A-Za-z0-9_.-]{{1,64}})|/(?P<version>latest|v?[0-9.]+))"
)
_FORMS: dict[Kind, str] = {
    "model": "an id, NAME@ALIAS, NAME/v1.2 or NAME/latest",
    "dataset": "an id, NAME/v1.2 or NAME/latest",
}


class DeploymentQuery(TypedDict, total=False):
    """The filter for the deployments of an id, a name or a display name."""

    _id: str
    name: str
    display_name: str


class VersionQuery(TypedDict, total=False):
    """The filter for the documents of an id or a reference."""

    _id: StoredId
    name: str
    aliases: str
    version_order: int
    status: Fields


@dataclass(frozen=True)
class Reference:
    """A version of a name: by ``alias``, by ``version_order``, or the latest if neither is given."""

    name: str
    alias: str | None = None
    version_order: int | None = None

    def query(self, kind: Kind) -> VersionQuery:
        """Return the filter for the documents; if several match, the highest version is meant."""
        if self.alias is not None:
            return {"name": self.name, "aliases": self.alias}
        if self.version_order is not None:
            return {"name": self.name, "version_order": self.version_order}
        if kind == "model":
            return {"name": self.name, "status": {"$ne": ModelStatus.ARCHIVED}}
        return {"name": self.name}

    def of(self, name: str) -> "Reference":
        """Return a reference to the same version or alias of another name."""
        return Reference(name, self.alias, self.version_order)

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        if self.version_order is not None:
            return f"{self.name}/{version_of(self.version_order)}"
        return f"{self.name}/{LATEST}"


def without_scheme(kind: Kind, text: str) -> str:
    return text.removeprefix(f"{kind}s:/")


def parse_reference(kind: Kind, text: str) -> Reference | None:
    """Parse a reference to a version; None: the text is an id.

    Raises:
        MalformedId: the text is a name without a version, or has none of the forms.
        InvalidRequest: an alias of a dataset, or a malformed version number.
    """
    bare = without_scheme(kind, text)
    if object_id(bare) is not None:
        return None
    match = _REFERENCE.fullmatch(bare)
    if match is None:
        raise MalformedId(kind, text, _form_hint(kind, bare))
    name, alias, version = match.group("name", "alias", "version")
    if alias is not None and kind == "dataset":
        raise InvalidRequest(
            f"Datasets have no aliases: write {name}/v1.2 or {name}/{LATEST} instead of {text[:300]!r}.",
            id=text[:300],
        )
    if alias is not None or version == LATEST:
        return Reference(name, alias)
    parsed = VERSION.fullmatch("v" + version.removeprefix("v"))
    if parsed is None:
        raise InvalidRequest(f"{version[:40]!r} in {text[:300]!r} is not a version like v1.2.", id=text[:300])
    return Reference(name, version_order=_order(parsed))


def query_of(kind: Kind, text: str) -> VersionQuery:
    """Return the filter for the model or dataset of an id or a reference.

    Raises:
        MalformedId, InvalidRequest: the text is neither.
    """
    reference = parse_reference(kind, text)
    if reference is not None:
        return reference.query(kind)
    document_id = object_id(without_scheme(kind, text))
    assert document_id is not None  # a text that is not an id is a reference
    return {"_id": document_id}


def deployment_query(text: str) -> DeploymentQuery:
    """Return the filter for the deployment with an id, or for all with a name or display name."""
    bare = without_scheme("deployment", text)
    try:
        return {"_id": str(UUID(bare))}
    except ValueError:
        return {"name": bare} if is_plain(bare) else {"display_name": bare}


def _form_hint(kind: Kind, text: str) -> str:
    if not re.fullmatch(NAME, text):
        return f"Use {_FORMS[kind]}."
    alias = f"{text}@ALIAS, " if kind == "model" else ""
    return f"If it is a name, say which version: {alias}{text}/v1.2 or {text}/{LATEST}."


def version_order(version: str) -> int:
    """Return a number that sorts like versions: v2.10 after v2.9.

    Raises:
        InvalidField: the version is malformed.
    """
    match = VERSION.fullmatch(version)
    if match is None:
        raise InvalidField.of(
            "version",
            "'v' and one or two numbers, like v1 or v1.0",
            wrong=f"{version[:40]!r} is not a version",
        )
    return _order(match)


def version_of(order: int) -> str:
    major, minor = divmod(order, MINORS)
    return f"v{major}.{minor}"


def following(newest: int | None, *, breaking: bool = False) -> str:
    """Return the version after ``newest``: the next minor one, or the next major one; v1.0 if none."""
    if newest is None:
        return "v1.0"
    return version_of((newest // MINORS + 1) * MINORS if breaking else newest + 1)


def check_alias(alias: str) -> str:
    """Return a valid alias. Raises: InvalidField: it is malformed, or looks like a version."""
    if ALIAS.fullmatch(alias) and alias != LATEST and not _VERSION_LIKE.fullmatch(alias):
        return alias
    message = "1 to 64 letters, digits, '_', '-' and '.'; not 'latest', and not like a version"
    raise InvalidField.of("alias", message, wrong=f"{alias[:70]!r} is not an alias")


def _order(match: re.Match[str]) -> int:
    return int(match[1]) * MINORS + int(match[2] or 0)
