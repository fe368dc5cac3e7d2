"""The trash of model versions: list and restore."""

from model_service.actor import Permission, actor, may_read, require
from model_service.errors import Conflict, NotFound
from model_service.services.common.paging import Page
from model_service.services.common.references import query_of
from model_service.storage.common.db import Session
from model_service.storage.models.documents import DeletedModel, Model
from model_service.storage.models.models import DuplicateAlias
from model_service.storage.stores import Stores
from model_service.storage.versioned.records import DuplicateVersion


class TrashService:
    def __init__(self, stores: Stores) -> None:
        self._database = stores.database
        self._models = stores.models
        self._trash = stores.trash
        self._gates = stores.gates

    def page(self, page: int, limit: int) -> Page[DeletedModel]:
        """Return the deleted versions that the caller may read, most recently deleted first."""
        namespaces = actor().readable_namespaces()
        items, total = self._trash.page(namespaces, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def restore(self, reference: str) -> Model:
        """Restore a deleted version, with those of its aliases that are still free and have no gate.

        Raises:
            MalformedId, InvalidRequest, NotPermitted.
            NotFound: the version is not in the trash.
            Conflict: its version number is taken.
        """
        found = self._trash.find(query_of("model", reference))
        if found is None:
            raise NotFound("deleted model", reference)
        wanted = found["_id"]

        def work(session: Session) -> Model | None:
            deleted = self._trash.get(wanted, session)
            if deleted is None or not may_read(deleted["name"]):
                return None
            require(Permission.WRITE, deleted["name"])
            gated = self._gates.gated(deleted["name"], deleted.get("aliases", ()), session)
            return self._trash.take(wanted, session, without=gated)

        while True:
            try:
                with self._models.changing(wanted):
                    restored = self._database.transaction(work)
            except DuplicateVersion:
                raise Conflict(
                    f"{found['name']} {found['version']} cannot be restored: another model has this "
                    "version now."
                ) from None
            except DuplicateAlias:
                continue
            if restored is None:
                raise NotFound("deleted model", reference)
            return restored
