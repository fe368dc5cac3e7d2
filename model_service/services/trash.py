"""Deleted versions: what may be seen of them, and bringing one back."""

from model_service.actor import actor
from model_service.errors import Conflict, NotFound
from model_service.services.ids import parse_model_id
from model_service.services.model_rules import require_writable
from model_service.services.paging import Page
from model_service.storage.db import Database, Document, Session
from model_service.storage.models import DuplicateAlias, DuplicateVersion, Models
from model_service.storage.trash import Trash

# A total is exact up to here; nobody turns that many pages of deleted things.
COUNTED = 10_000


class TrashService:
    def __init__(self, database: Database, models: Models, trash: Trash) -> None:
        self._database = database
        self._models = models
        self._trash = trash

    def page(self, page: int, limit: int) -> Page:
        """The deleted versions that whoever acts may read, newest first. The total ends at COUNTED."""
        namespaces = actor().readable_namespaces()
        items, total = self._trash.page(namespaces, (page - 1) * limit, limit, count_up_to=COUNTED)
        return Page(items, page, limit, total)

    def restore(self, model_id: str) -> Document:
        """Bring a deleted version back, with those of its aliases that are still free.

        Raises:
            MalformedId.
            NotFound: it is not in the trash.
            Conflict: its name has that version again.
        """
        wanted = parse_model_id(model_id)

        def work(session: Session) -> Document | None:
            if (deleted := self._trash.get(wanted, session)) is not None:
                require_writable(deleted, model_id)
            return self._trash.take(wanted, session)

        while True:
            try:
                with self._models.changing(wanted):
                    restored = self._database.transaction(work)
            except DuplicateVersion:
                raise Conflict(f"Model {model_id} cannot come back: its version is taken.") from None
            except DuplicateAlias:
                continue
            if restored is None:
                raise NotFound("deleted model", model_id)
            return restored
