"""Create, find, cancel and delete evaluations."""

from typing import cast

from typing_extensions import TypedDict

from exporters.base import NOT_EXECUTED
from model_service.actor import Permission, actor, may_read, namespace_of, require
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.jobs.evaluate import evaluate
from model_service.jobs.queue import EVALUATIONS, Queue
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.ids import parse_uuid
from model_service.services.common.paging import Page, readable
from model_service.services.datasets.data_files import DataFile, DataFiles, Needs, checked_metrics
from model_service.services.exports.exports import ExportService
from model_service.services.exports.requests import checked_source, source_of
from model_service.services.files.held import HeldFiles
from model_service.services.models.models import ModelService
from model_service.services.models.origins import Origins
from model_service.states import EvaluationStatus, ExportStatus
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import (
    Fields,
    JobSource,
    JSONObject,
    blobs_of,
)
from model_service.storage.evaluations.documents import Evaluation, EvaluationRequest, new_evaluation
from model_service.storage.exports.documents import Interface
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores
from model_service.tracing import current

# A user's pending and running evaluations together.
MAX_UNDER_WAY = 100


class SentEvaluation(TypedDict):
    """The fields of a request. Exactly one of ``model_id`` and ``export_job_id`` is given."""

    model_id: str | None
    export_job_id: str | None
    dataset_id: str
    metrics: list[str] | None
    samples: int | None
    seed: int
    source_config: JSONObject


class EvaluationService:
    def __init__(
        self,
        stores: Stores,
        models: ModelService,
        files: HeldFiles[Model],
        origins: Origins,
        exports: ExportService,
        data_files: DataFiles,
        *,
        queue: Queue,
        idempotency: Idempotency,
    ) -> None:
        self._database = stores.database
        self._evaluations = stores.evaluations
        self._blobs = stores.blobs
        self._quotas = stores.export_quotas
        self._audit = stores.audit
        self._models = models
        self._stored_models = stores.models
        self._files = files
        self._origins = origins
        self._exports = exports
        self._stored_exports = stores.exports
        self._data_files = data_files
        self._queue = queue
        self._idempotency = idempotency

    def create(self, sent: SentEvaluation, once: Once | None = None) -> Evaluation:
        """Store a pending evaluation and wake a worker.

        Raises:
            MalformedId, NotFound: the model, its file, the export or the dataset does not exist.
            NotPermitted: the caller may not write the model.
            InvalidField: no subject, or two; a metric that the task does not have; a dataset that cannot be
                loaded or does not fit the model.
            Conflict: the export is not completed or cannot run here, the dataset is not inspected yet, or the
                caller has too many unfinished evaluations.
        """
        if (sent["model_id"] is None) == (sent["export_job_id"] is None):
            raise InvalidField.of("model_id", "needs exactly one of model_id and export_job_id")
        return self._idempotency.run(once, lambda note: self._create(sent, note), self.get)

    def _create(self, sent: SentEvaluation, note: Note) -> Evaluation:
        if sent["export_job_id"] is None:
            request = self._of_model(str(sent["model_id"]), sent)
        else:
            request = self._of_export(sent["export_job_id"], sent)
        document = new_evaluation(request, actor().name, now(), current())

        def work(session: Session) -> None:
            note(document["_id"], session)
            self._quotas.hold(actor().name, session)
            if self._evaluations.under_way(actor().name, session) >= MAX_UNDER_WAY:
                raise Conflict(
                    f"You have {MAX_UNDER_WAY} unfinished evaluations: wait for them, or cancel some.",
                    limit=MAX_UNDER_WAY,
                )
            self._origins.hold_datasets([document["dataset_id"]], session)
            if not self._blobs.retain_all(blobs_of(document), session):
                raise Conflict("A file of the model, the export or the dataset was removed meanwhile.")
            self._evaluations.insert(document, session)
            self._record("created", document, session)

        self._database.transaction(work)
        self._queue.enqueue(EVALUATIONS, evaluate, document["_id"])
        return document

    def _of_model(self, reference: str, sent: SentEvaluation) -> EvaluationRequest:
        model = self._files.get_with_file(reference)
        require(Permission.WRITE, model["name"])
        config = checked_source(sent["source_config"])
        source = source_of(model)
        declared = cast("list[Interface] | None", config.get("inputs"))
        inputs = declared or self._stored_exports.inputs_of(model["_id"], source["checksum"])
        needs = Needs(model["task_type"], inputs, bool(config.get("preprocessing")))
        subject = {
            "model_id": model["_id"],
            "model_name": model["name"],
            "model_version": model["version"],
            "namespace": namespace_of(model["name"]),
            "framework": model["framework"],
            "export_job_id": None,
        }
        return self._request(subject, source, config, needs, sent)

    def _of_export(self, job_id: str, sent: SentEvaluation) -> EvaluationRequest:
        job = self._exports.get(job_id)
        require(Permission.WRITE, job["model_name"])
        if sent["source_config"]:
            raise InvalidField.of("source_config", "only for a model's own files: a package describes itself")
        if job["status"] != ExportStatus.COMPLETED or "package" not in job:
            raise Conflict(
                f"Export job {job_id} is {job['status']}: only a completed one can be evaluated.",
                status=job["status"],
            )
        fidelity = job.get("fidelity")
        if fidelity is not None and fidelity["verdict"] == NOT_EXECUTED:
            raise Conflict(
                f"The package of export job {job_id} cannot run on the platform of the workers, so it cannot "
                "be evaluated here."
            )
        package = job["package"]
        source: JobSource = {
            "file_id": package["file_id"],
            "size_bytes": package["size_bytes"],
            "checksum": package["checksum"],
            "filename": "package.zip",
        }
        needs = Needs(job["task_type"], job.get("inputs"), bool(job["processing"].get("preprocessing")))
        same = ("model_id", "model_name", "model_version", "namespace", "framework")
        subject = {field: value for field, value in job.items() if field in same}
        return self._request(subject | {"export_job_id": job["_id"]}, source, {}, needs, sent)

    def _request(
        self, subject: Fields, source: JobSource, config: JSONObject, needs: Needs, sent: SentEvaluation
    ) -> EvaluationRequest:
        """Return the request with the checked dataset; ``subject`` names the model or the export."""
        data: DataFile = self._data_files.get(sent["dataset_id"], "test", "dataset_id", needs)
        dataset = data.dataset
        return cast(
            EvaluationRequest,
            {
                **subject,
                "task_type": needs.task_type,
                "source": source,
                "source_checksum": source["checksum"],
                "source_config": config,
                "datasets": [dataset],
                "dataset_id": dataset["dataset_id"],
                "dataset_name": dataset["name"],
                "dataset_version": dataset["version"],
                "dataset_checksum": dataset["checksum"],
                "metrics": checked_metrics(sent["metrics"], data.task, "metrics"),
                "samples": sent["samples"],
                "seed": sent["seed"],
            },
        )

    def get(self, evaluation_id: str) -> Evaluation:
        """Return an evaluation. Raises: MalformedId, NotFound."""
        found = self._evaluations.get(parse_uuid("evaluation", evaluation_id))
        if found is None or not may_read(found["model_name"]):
            raise NotFound("evaluation", evaluation_id)
        return found

    def search(self, filters: Fields, *, page: int, limit: int) -> Page[Evaluation]:
        """Return the matching evaluations that the caller may read, newest first.

        Args:
            filters: fields and their values; ``model_id`` and ``dataset_id`` may be references.

        Raises:
            MalformedId, InvalidRequest, NotFound: there is no such model or dataset.
        """
        query = readable() | {field: value for field, value in filters.items() if value is not None}
        if "model_id" in query:
            query["model_id"] = self._models.id_of(str(query["model_id"]))
        if "dataset_id" in query:
            query["dataset_id"] = self._origins.dataset(str(query["dataset_id"]))["_id"]
        items, total = self._evaluations.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def cancel(self, evaluation_id: str) -> Evaluation:
        """Cancel a pending or running evaluation. A cancelled one is returned unchanged.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: it was completed or has failed.
        """
        evaluation = self._writable(evaluation_id)

        def work(session: Session) -> Evaluation | None:
            cancelled = self._evaluations.cancel(evaluation["_id"], actor().name, session)
            if cancelled is not None:
                self._blobs.release_all(blobs_of(cancelled), session)
                self._record("cancelled", cancelled, session)
            return cancelled

        after = self._database.transaction(work) or self.get(evaluation_id)
        if after["status"] != EvaluationStatus.CANCELLED:
            raise Conflict(
                f"Evaluation {evaluation_id} is already {after['status']} and cannot be cancelled.",
                status=after["status"],
            )
        return after

    def delete(self, evaluation_id: str) -> str:
        """Delete an evaluation that has ended. Returns its id.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: it has not ended.
        """
        evaluation = self._writable(evaluation_id)

        def work(session: Session) -> None:
            gone = self._evaluations.remove(evaluation["_id"], session)
            if gone is None:
                raise Conflict(
                    f"Evaluation {evaluation_id} is {evaluation['status']}: cancel it first.",
                    status=evaluation["status"],
                )
            if gone["export_job_id"] is None:
                self._evaluations.show_latest(gone["model_id"], gone["dataset_id"], session)
            self._record("deleted", gone, session)

        with self._stored_models.changing(evaluation["model_id"]):
            self._database.transaction(work)
        return evaluation["_id"]

    def _writable(self, evaluation_id: str) -> Evaluation:
        evaluation = self.get(evaluation_id)
        require(Permission.WRITE, evaluation["model_name"])
        return evaluation

    def _record(self, action: str, evaluation: Evaluation, session: Session) -> None:
        details = {
            "model_id": str(evaluation["model_id"]),
            "export_job_id": evaluation["export_job_id"],
            "dataset_id": str(evaluation["dataset_id"]),
        }
        self._audit.record(
            action,
            "evaluation",
            evaluation["_id"],
            session=session,
            name=evaluation["model_name"],
            details=details,
        )
