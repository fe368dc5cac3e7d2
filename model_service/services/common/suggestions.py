"""Suggestions for a name that does not exist: "Did you mean 'digits@production'?"

Only names that the caller may read are suggested, and the response does not reveal whether a name that the
caller may not read exists.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Protocol

from model_service.actor import actor, may_read
from model_service.errors import NotFound
from model_service.services.common.references import Kind, Reference, parse_reference, without_scheme
from model_service.storage.common.documents import Fields, FileHolder

_MOST = 3


class Versions(Protocol):
    """The stored models or datasets."""

    def find(self, query: Fields) -> FileHolder | None: ...

    def names_near(self, name: str) -> list[str]:
        """Return a bounded number of names, including names with the same beginning."""

    def aliases_of(self, name: str) -> list[str]: ...


class DeploymentNames(Protocol):
    def newest_names(self, namespaces: list[str] | None) -> list[str]: ...


class Suggestions:
    def __init__(self, versions: Mapping[Kind, Versions], deployments: DeploymentNames) -> None:
        self._versions = versions
        self._deployments = deployments

    def missing(self, kind: Kind, text: str) -> NotFound:
        """Return the error for an id or a reference to nothing that the caller may read."""
        if kind == "deployment":
            names = self._deployments.newest_names(actor().readable_namespaces())
            return _not_found(kind, text, _close(without_scheme(kind, text), names))
        reference = parse_reference(kind, text)
        if reference is None:
            return NotFound(kind, text)
        stored = self._versions[kind]
        newest = stored.find({"name": reference.name}) if may_read(reference.name) else None
        if newest is not None:
            aliases = stored.aliases_of(reference.name)
            return _no_such_version(kind, text, reference, newest["version"], aliases)
        close = _close(reference.name, filter(may_read, stored.names_near(reference.name)))
        return _not_found(kind, text, [str(_existing(stored, kind, reference.of(name))) for name in close])


def _no_such_version(kind: Kind, text: str, wanted: Reference, newest: str, aliases: list[str]) -> NotFound:
    """Return the error for an existing name; ``newest`` is its highest version."""
    if wanted.alias is None:
        suggestion = f"{wanted.name}/{newest}"
        return NotFound(kind, text, f"Its highest version is {suggestion!r}.", [suggestion])
    if close := _close(wanted.alias, aliases):
        return _not_found(kind, text, [f"{wanted.name}@{alias}" for alias in close])
    known = f"has the aliases {', '.join(sorted(aliases)[:20])}" if aliases else "has no alias"
    return NotFound(kind, text, f"{wanted.name} {known}.")


def _existing(stored: Versions, kind: Kind, reference: Reference) -> Reference:
    """Return the reference, or the latest version of its name if the reference matches nothing."""
    return reference if stored.find(reference.query(kind)) is not None else Reference(reference.name)


def _close(wanted: str, names: Iterable[str]) -> list[str]:
    """Return names with a similar spelling, ignoring case and namespace."""
    by_key: dict[str, str] = {}
    for name in names:
        by_key.setdefault(name.rpartition("/")[2].casefold(), name)
        by_key[name.casefold()] = name
    keys = get_close_matches(wanted.casefold(), by_key, n=2 * _MOST, cutoff=0.7)
    return list(dict.fromkeys(by_key[key] for key in keys))[:_MOST]


def _not_found(kind: Kind, text: str, suggestions: list[str]) -> NotFound:
    hint = f"Did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else ""
    return NotFound(kind, text, hint, suggestions)
