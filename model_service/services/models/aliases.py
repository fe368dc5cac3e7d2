"""Aliases: movable labels. An alias of a name is on at most one of its versions."""

from collections.abc import Callable
from typing import Protocol

from model_service.actor import may_read
from model_service.errors import Conflict, NotFound
from model_service.services.common.references import check_alias
from model_service.services.models.models import ModelService
from model_service.services.models.rules import require_not_archived, require_writable
from model_service.storage.common.db import Session
from model_service.storage.common.documents import AuditEntry, Fields
from model_service.storage.models.documents import Model
from model_service.storage.models.models import DuplicateAlias
from model_service.storage.stores import Stores

MAX_ALIASES = 100


class Gatekeeper(Protocol):
    """Decides whether the caller may move an alias to a version."""

    def require_passed(self, model: Model, alias: str, session: Session) -> Fields:
        """Return what the audit log keeps of the decision. Raises: GateRefused."""


class AliasService:
    def __init__(self, stores: Stores, service: ModelService, gatekeeper: Gatekeeper) -> None:
        self._database = stores.database
        self._models = stores.models
        self._service = service
        self._gatekeeper = gatekeeper
        self._audit = stores.audit

    def of_name(self, name: str) -> list[Model]:
        """Return the versions of a name that have aliases, highest first; empty for an unknown name."""
        return self._models.with_aliases(name) if may_read(name) else []

    def history(self, name: str, alias: str, limit: int) -> list[AuditEntry]:
        """Return the newest changes of an alias, its gate and its approvals, newest first.

        Raises:
            InvalidField: the alias is malformed.
        """
        check_alias(alias)
        return self._audit.of_alias(name, alias, limit) if may_read(name) else []

    def set(
        self,
        reference: str,
        alias: str,
        comment: str | None = None,
        *,
        also: Callable[[Session], None] = lambda session: None,
    ) -> Model:
        """Put the alias on this version, and take it from the version of the name that had it.

        Concurrent calls run one after the other. The alias is never on two versions, and once set it is
        always on one. Returns the version that has it now.

        Args:
            comment: the reason, for the history of the alias.
            also: runs in the same transaction, perhaps several times; an error that it raises aborts it.

        Raises:
            MalformedId, NotFound.
            InvalidField: the alias is malformed.
            GateRefused: the alias has a gate, and the version does not pass it.
            Conflict: the version is archived, or has MAX_ALIASES.
        """
        check_alias(alias)
        target_id = self._service.id_of(reference)

        def work(session: Session) -> list[Model]:
            target = self._models.get(target_id, session)
            if target is None:
                raise NotFound("model", reference)
            require_writable(target, reference)
            also(session)
            if alias in target.get("aliases", ()):
                return [target]
            require_not_archived(target)
            decision = self._gatekeeper.require_passed(target, alias, session)
            changed = []
            holder = self._models.find({"name": target["name"], "aliases": alias}, session)
            if holder is not None:
                taken = self._models.change(
                    holder["_id"], _without(alias), session, action="alias_taken", details={"alias": alias}
                )
                changed.append(taken)
            details = {"alias": alias, "version": target["version"], **decision}
            if holder is not None:
                details["from_version"] = holder["version"]
            if comment:
                details["comment"] = comment
            changed.append(
                self._models.change(target_id, _with(alias), session, action="alias_set", details=details)
            )
            return [change.after for change in changed if change is not None]

        while True:
            with self._models.changing(target_id) as changing:
                try:
                    changed = self._database.transaction(work)
                except DuplicateAlias:
                    continue  # another version got the alias meanwhile: the next attempt takes it from there
                changing.update(model["_id"] for model in changed)
            return changed[-1]

    def remove(
        self, reference: str, alias: str, *, also: Callable[[Session], None] = lambda session: None
    ) -> Model:
        """Remove the alias from this version, archived or not. Returns the version.

        Args:
            also: as for ``set``.

        Raises:
            MalformedId.
            NotFound: there is no such model, or it does not have this alias.
        """

        def edit(before: Model) -> Fields:
            if alias not in before.get("aliases", ()):
                raise NotFound("alias", alias)
            return _without(alias)(before)

        return self._service.change(reference, edit, action="alias_removed", also=also).after


def _with(alias: str) -> Callable[[Model], Fields]:
    def edit(before: Model) -> Fields:
        aliases = sorted([*before.get("aliases", ()), alias])
        if len(aliases) > MAX_ALIASES:
            raise Conflict(f"A version has at most {MAX_ALIASES} aliases.", allowed=MAX_ALIASES)
        return {"aliases": aliases}

    return edit


def _without(alias: str) -> Callable[[Model], Fields]:
    return lambda before: {"aliases": [one for one in before["aliases"] if one != alias]}
