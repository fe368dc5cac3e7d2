"""Training jobs: records of the runs that models came from. The service does not run them."""

import uuid
from collections.abc import Collection
from datetime import datetime

from typing_extensions import TypedDict

from model_service.actor import Permission, creator, namespace_of, require
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.ids import parse_uuid
from model_service.services.common.paging import Page, readable
from model_service.services.models.origins import Origins
from model_service.services.models.rules import check_revision, check_transition
from model_service.states import TRAINING_TRANSITIONS, TrainingStatus
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields, JSONObject, changed
from model_service.storage.stores import Stores
from model_service.storage.training.documents import TrainingJob, UsedDataset, new_training_job
from model_service.storage.versioned.records import Change


class SentDataset(TypedDict):
    """``dataset_id`` is an id or a reference."""

    dataset_id: str
    role: str


class SentTrainingJob(TypedDict, total=False):
    """The fields of a training job in a request."""

    name: str
    description: str | None
    algorithm: str | None
    framework: str | None
    task_type: str | None
    tags: list[str]
    status: TrainingStatus
    hyperparameters: JSONObject
    metrics: JSONObject
    config: JSONObject
    environment: JSONObject
    datasets: list[SentDataset]
    code: JSONObject | None
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_by: str | None


class TrainingJobService:
    def __init__(self, stores: Stores, origins: Origins, idempotency: Idempotency) -> None:
        self._database = stores.database
        self._jobs = stores.training_jobs
        self._origins = origins
        self._idempotency = idempotency

    def create(self, fields: SentTrainingJob, once: Once | None = None) -> TrainingJob:
        """Store a training job in any status, including a finished one.

        Raises:
            NotFound: a dataset does not exist.
            InvalidField: the job finished before it started.
        """
        require(Permission.WRITE, fields["name"])
        return self._idempotency.run(once, lambda note: self._create(fields, note), self.get)

    def _create(self, fields: SentTrainingJob, note: Note) -> TrainingJob:
        at = now()
        resolved = {
            **fields,
            "_id": str(uuid.uuid4()),
            "created_by": creator(fields.get("created_by")),
            "datasets": self._resolved(fields["datasets"]),
        }
        document = new_training_job(resolved, namespace_of(fields["name"]), at)
        document = changed(document, _times(document, at))

        def work(session: Session) -> None:
            note(document["_id"], session)
            self._origins.hold_datasets((used["dataset_id"] for used in document["datasets"]), session)
            self._jobs.insert(document, session)

        self._database.transaction(work)
        return document

    def get(self, job_id: str) -> TrainingJob:
        """Return a training job. Raises: MalformedId, NotFound."""
        return self._origins.training_job(job_id)

    def page(self, filters: Fields, page: int, limit: int) -> Page[TrainingJob]:
        """Return the matching jobs that the caller may read, newest first.

        Args:
            filters: fields and their values; ``tags`` matches any of several, ``dataset_id`` in any role.

        Raises:
            MalformedId, InvalidRequest, NotFound: the dataset cannot be found.
        """
        query = {**filters, **readable()}
        if "tags" in query:
            query["tags"] = {"$in": query["tags"]}
        if "dataset_id" in query:
            query["datasets.dataset_id"] = self._origins.dataset(str(query.pop("dataset_id")))["_id"]
        items, total = self._jobs.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def update(
        self, job_id: str, sent: SentTrainingJob, *, revisions: Collection[int] | None = None
    ) -> TrainingJob:
        """Change the fields that are sent. Entering a status for the first time sets its time.

        Args:
            revisions: change the job only if it has one of these revisions, checked atomically.

        Raises:
            MalformedId, NotFound, NotPermitted.
            PreconditionFailed: it has another revision; ``details.etag`` is the present one's.
            Conflict: the change of status is not allowed; ``details.allowed`` lists the allowed ones.
            InvalidField: the job would finish before it starts.
        """
        job = self.get(job_id)
        require(Permission.WRITE, job["name"])
        datasets = self._resolved(sent["datasets"]) if "datasets" in sent else []
        changes: dict[str, object] = {**sent, **({"datasets": datasets} if "datasets" in sent else {})}

        def edit(before: TrainingJob) -> Fields:
            check_revision(before, revisions)
            if "status" in sent:
                check_transition(
                    "training job", TrainingStatus(before["status"]), sent["status"], TRAINING_TRANSITIONS
                )
            return changes | _times(changed(before, changes), now(), changes)

        def work(session: Session) -> Change[TrainingJob] | None:
            self._origins.hold_datasets((used["dataset_id"] for used in datasets), session)
            return self._jobs.change(job["_id"], edit, session)

        change = self._database.transaction(work)
        if change is None:
            raise NotFound("training job", job_id)
        return change.after

    def delete(self, job_id: str) -> str:
        """Delete a training job without models. Returns its id.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: a model, which may be in the trash, references it.
        """
        parsed = parse_uuid("training job", job_id)
        require(Permission.WRITE, self.get(job_id)["name"])

        def work(session: Session) -> TrainingJob | None:
            gone = self._jobs.remove(parsed, session)
            if self._jobs.has_models(parsed, session):
                raise Conflict(
                    "Models refer to this training job: delete them first, from the trash too.",
                    training_job_id=parsed,
                )
            return gone

        if self._database.transaction(work) is None:
            raise NotFound("training job", job_id)
        return parsed

    def _resolved(self, datasets: list[SentDataset]) -> list[UsedDataset]:
        """Replace references by stored ids. Raises: InvalidField: a dataset has one role twice."""
        found: list[UsedDataset] = [
            {"dataset_id": self._origins.dataset(used["dataset_id"])["_id"], "role": used["role"]}
            for used in datasets
        ]
        if len({(used["dataset_id"], used["role"]) for used in found}) < len(found):
            raise InvalidField.of("datasets", "the same dataset may occur only once in a role")
        return found


def _times(job: TrainingJob, at: datetime, sent: Fields | None = None) -> dict[str, datetime]:
    """Return the missing start and finish time, if the status implies them and the request has none.

    Raises:
        InvalidField: the job finished before it started.
    """
    found: dict[str, datetime] = {}
    status = TrainingStatus(job["status"])
    if status == TrainingStatus.RUNNING and job["started_at"] is None:
        found["started_at"] = at
    if status.final and job["finished_at"] is None and (sent is None or "finished_at" not in sent):
        found["finished_at"] = at
    started = found.get("started_at", job["started_at"])
    finished = found.get("finished_at", job["finished_at"])
    if started and finished and finished < started:
        raise InvalidField.of("finished_at", "not before started_at")
    return found
