"""Model versions: create, read, change and delete. Their files are in ``services.files.held``."""

from collections.abc import Callable, Collection

from model_service.actor import Permission, creator, may_read, require
from model_service.errors import NotFound
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.references import MINORS, query_of
from model_service.services.common.suggestions import Suggestions
from model_service.services.models.origins import Origins, SentOrigins
from model_service.services.models.rules import check_revision, check_transition, permitted, require_writable
from model_service.services.models.versions import NewVersions, Wanted
from model_service.states import MODEL_TRANSITIONS, ModelStatus
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields, JSONObject, StoredId
from model_service.storage.models.documents import Model
from model_service.storage.models.hot_model import HotModel
from model_service.storage.stores import Stores
from model_service.storage.versioned.records import Change

# Fields that a new version inherits from its parent unless the request sends them.
INHERITED = (
    "algorithm",
    "description",
    "framework",
    "task_type",
    "hyperparameters",
    "metrics",
    "dataset_info",
    "dataset_ids",
    "signature",
    "tags",
    "created_by",
)


class SentModel(SentOrigins, total=False):
    """The fields of a model version in a request, with references instead of stored ids."""

    name: str
    version: str | None
    breaking_changes: bool
    algorithm: str
    framework: str | None
    description: str | None
    task_type: str | None
    status: ModelStatus
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: JSONObject | None
    tags: list[str]
    aliases: list[str]
    created_by: str | None
    parent_model_id: str | None


class ModelService:
    def __init__(
        self,
        stores: Stores,
        versions: NewVersions,
        idempotency: Idempotency,
        origins: Origins,
        suggestions: Suggestions,
    ) -> None:
        self._database = stores.database
        self._models = stores.models
        self._trash = stores.trash
        self._versions = versions
        self._idempotency = idempotency
        self._origins = origins
        self._suggestions = suggestions

    def register(self, fields: SentModel, once: Once | None = None) -> Model:
        """Store a new version. Without a ``version`` it gets the next minor one of its name, from v1.0 on.

        With ``breaking_changes`` it gets the next major one. A number is never given twice.

        Raises:
            InvalidField: the version is not ``v1`` or ``v1.0``.
            NotFound: ``parent_model_id``, ``training_job_id`` or one of ``dataset_ids`` does not exist.
            Conflict: the name has or had this version.
        """
        require(Permission.WRITE, fields["name"])
        return self._idempotency.run(
            once, lambda note: self._register(fields, note if once else None), self.get
        )

    def _register(self, sent: SentModel, note: Note | None) -> Model:
        fields = self._origins.resolved(sent) | {"created_by": creator(sent.get("created_by"))}
        if parent := sent.get("parent_model_id"):
            fields["parent_model_id"] = self.get(parent)["_id"]
        return self._versions.create(_stored(fields), _wanted(sent), note)

    def new_version(
        self, reference: str, changes: SentModel, *, copy_files: bool, once: Once | None = None
    ) -> Model:
        """Create a version from another one of its name: its parent's fields with these changes.

        It gets the next minor version in its parent's major one; with ``breaking_changes`` the next major.

        Args:
            copy_files: also give it its parent's files. Files shared by several versions are stored once.

        Raises:
            MalformedId, NotFound.
            InvalidField, Conflict: as ``register``.
        """
        return self._idempotency.run(
            once,
            lambda note: self._new_version(reference, changes, copy_files, note if once else None),
            self.get,
        )

    def _new_version(self, reference: str, changes: SentModel, copy_files: bool, note: Note | None) -> Model:
        parent = self.get(reference)
        require(Permission.WRITE, parent["name"])
        of_parent: Fields = parent
        inherited = {
            field: of_parent[field] for field in INHERITED if field in of_parent and field not in changes
        }
        fields = {
            "name": parent["name"],
            "status": ModelStatus.ACTIVE,
            "training_job_id": None,
            **inherited,
            **_stored(self._origins.resolved(changes)),
            "parent_model_id": parent["_id"],
        }
        fields["created_by"] = creator(changes.get("created_by", parent.get("created_by")))
        if copy_files:
            fields |= {field: of_parent.get(field) for field in ("files", "file_metadata", "size_bytes")}
        major = None if changes.get("breaking_changes") else parent["version_order"] // MINORS
        return self._versions.create(fields, _wanted(changes, major), note)

    def get(self, reference: str) -> Model:
        """Return a model version. Raises: MalformedId, InvalidRequest, NotFound."""
        document = self._models.find(query_of("model", reference))
        if document is None or not may_read(document["name"]):
            raise self.missing(reference)
        return document

    def missing(self, reference: str) -> NotFound:
        """Return the error for a model that does not exist, or that the caller may not read."""
        return self._suggestions.missing("model", reference)

    def answer(self, reference: str, render: Callable[[Model], bytes]) -> HotModel:
        """Return the rendered response of the model, at least as new as the last acknowledged change.

        Raises:
            MalformedId, NotFound.
        """
        query = query_of("model", reference)
        if "_id" in query:
            found = self._models.answer(query["_id"], render)
        else:
            document = self._models.find(query)
            found = None if document is None else HotModel.of(document, render)
        if found is None or not may_read(found.name):
            raise self.missing(reference)
        return found

    def id_of(self, reference: str) -> StoredId:
        """Return the stored id of a reference. If the reference is an id, the model need not exist.

        Raises:
            MalformedId, NotFound.
        """
        query = query_of("model", reference)
        return query["_id"] if "_id" in query else self.get(reference)["_id"]

    def update(
        self, reference: str, changes: SentModel, *, revisions: Collection[int] | None = None
    ) -> Model:
        """Change the fields that are sent. Returns the changed model.

        Args:
            revisions: change the model only if it has one of these revisions, checked atomically.

        Raises:
            MalformedId, NotFound.
            PreconditionFailed: it has another revision; ``details.etag`` is the present one's.
            Conflict: the change of status is not allowed; ``details.allowed`` lists the allowed ones.
        """
        resolved = self._origins.resolved(changes)

        def edit(before: Model) -> Fields:
            check_revision(before, revisions)
            if "status" in changes:
                check_transition("model", ModelStatus(before["status"]), changes["status"], MODEL_TRANSITIONS)
            return resolved

        return self.change(reference, edit).after

    def change(
        self,
        reference: str,
        edit: Callable[[Model], Fields],
        *,
        action: str = "updated",
        also: Callable[[Session], None] = lambda session: None,
    ) -> Change[Model]:
        """Change one model in its own transaction if the caller may write it; see ``Records.change``.

        Args:
            also: runs in the same transaction, perhaps several times; an error that it raises aborts it.

        Raises:
            MalformedId, NotFound, NotPermitted, and any error that ``edit`` raises.
        """
        model_id = self.id_of(reference)

        def work(session: Session) -> Change[Model] | None:
            change = self._models.change(model_id, permitted(edit, reference), session, action=action)
            if change is not None:
                self._origins.hold(change.after, session, change.before)
                also(session)
            return change

        with self._models.changing(model_id):
            changed = self._database.transaction(work)
        if changed is None:
            raise NotFound("model", reference)
        return changed

    def delete(
        self,
        reference: str,
        *,
        purge: bool = False,
        also: Callable[[Session], None] = lambda session: None,
    ) -> str:
        """Move the version to the trash, from where it can be restored with its files. Returns its id.

        Its exports are kept.

        Args:
            purge: remove it permanently and at once, whether or not it is in the trash already.
            also: runs in the transaction that moves it to the trash, as for ``change``.

        Raises:
            MalformedId, NotFound.
        """
        model_id = self._id_in_trash(reference) if purge else None
        model_id = model_id or self.id_of(reference)

        def work(session: Session) -> bool:
            model = self._models.get(model_id, session)
            if model is None:
                return False
            require_writable(model, reference)
            self._trash.put(model_id, session)
            also(session)
            return True

        with self._models.changing(model_id):
            found = self._database.transaction(work)
        if purge:
            gone = self._trash.get(model_id)
            if gone is not None:
                require_writable(gone, reference)
                self._trash.purge(model_id)
                found = True
        if not found:
            raise NotFound("model", reference)
        return str(model_id)

    def _id_in_trash(self, reference: str) -> StoredId | None:
        """Return the id of the deleted version, unless the reference names an existing version."""
        query = query_of("model", reference)
        if self._models.find(query) is not None:
            return None
        deleted = self._trash.find(query)
        return deleted["_id"] if deleted is not None and may_read(deleted["name"]) else None

    def count_download(self, model: Model) -> None:
        self._models.count_download(model)


def _stored(fields: Fields) -> dict[str, object]:
    """Return the fields except the ones that determine the version."""
    return {name: value for name, value in fields.items() if name not in ("version", "breaking_changes")}


def _wanted(sent: SentModel, major: int | None = None) -> Wanted:
    return Wanted(sent.get("version"), sent.get("breaking_changes", False), major)
