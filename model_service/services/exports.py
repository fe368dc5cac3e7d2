"""Export jobs: what may be asked for, and what a finished one gives."""

import uuid

from exporters import registry
from exporters.base import ExportRequest
from exporters.errors import UnsupportedOption as ExporterRefusal
from exporters.processing.declared import check_postprocessing
from model_service.actor import Permission, may_read, namespace_of, require
from model_service.errors import Conflict, InvalidField, NotFound, UnsupportedOption
from model_service.jobs.export import export
from model_service.jobs.queue import Queue
from model_service.services.files import StoredFile
from model_service.services.held_files import HeldFiles
from model_service.services.idempotency import Idempotency, Note, Once
from model_service.services.ids import parse_uuid
from model_service.services.models import ModelService
from model_service.services.origins import Origins
from model_service.services.paging import Page, readable
from model_service.states import ExportStatus
from model_service.storage.audit import Audit
from model_service.storage.blobs import Blobs, blob_of
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.exports import Exports

# Parts of export_config that describe the model rather than the format; every package carries them.
PROCESSING = ("classes", "preprocessing", "postprocessing")


class ExportService:
    def __init__(
        self,
        database: Database,
        exports: Exports,
        blobs: Blobs,
        models: ModelService,
        files: HeldFiles,
        origins: Origins,
        idempotency: Idempotency,
        queue: Queue,
    ) -> None:
        self._database = database
        self._exports = exports
        self._blobs = blobs
        self._models = models
        self._files = files
        self._origins = origins
        self._idempotency = idempotency
        self._queue = queue
        self._audit = Audit(database)

    def create(
        self,
        *,
        model_id: str | None,
        training_job_id: str | None,
        export_format: str,
        export_config: Document,
        optimization_config: Document | None,
        validation_config: Document | None,
        version_tag: str | None,
        once: Once | None = None,
    ) -> Document:
        """Store a pending job and wake a worker.

        Raises:
            MalformedId, NotFound: of the model, its file or the training job.
            NotPermitted: by somebody who may not write the model.
            UnsupportedOption: the format or an option of it is not offered; ``details.allowed`` is.
            InvalidField: no source, or two.
        """
        if (model_id is None) == (training_job_id is None):
            raise InvalidField.of("model_id", "exactly one of model_id and training_job_id names the source")
        options = dict(export_config)
        processing = {part: options.pop(part, None) for part in PROCESSING}
        options = _validate(export_format, options, processing, optimization_config, validation_config)

        def make(note: Note) -> Document:
            source = model_id
            if source is None:
                source = self._origins.newest_model_with_file(str(training_job_id))
            model = self._files.get_with_file(source)
            require(Permission.WRITE, model["name"])
            document = _new_job(model, export_format, options, processing, version_tag)

            def work(session: Session) -> None:
                note(document["_id"], session)
                # The job holds on to its source: a deleted model can still be converted to the end.
                if not self._blobs.retain(document["source"]["file_id"], session):
                    raise NotFound("file of model", source)
                self._exports.insert(document, session)
                self._audit.record(
                    "created",
                    "export_job",
                    document["_id"],
                    session=session,
                    name=model["name"],
                    details={"format": export_format, "model_id": str(model["_id"])},
                )

            self._database.transaction(work)
            self._queue.enqueue(export, document["_id"])
            return document

        return self._idempotency.run(once, make, self.get)

    def get(self, job_id: str) -> Document:
        """Raises: MalformedId, NotFound."""
        job = self._exports.get(parse_uuid("export job", job_id))
        if job is None or not may_read(job["model_name"]):
            raise NotFound("export job", job_id)
        return job

    def search(self, *, model_id: str | None, status: ExportStatus | None, page: int, limit: int) -> Page:
        query = readable()
        if model_id is not None:
            query["model_id"] = self._models.id_of(model_id)
        if status is not None:
            query["status"] = status
        items, total = self._exports.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def open_package(self, job_id: str) -> StoredFile:
        """The package as a zip; of a job whose verification failed too, for diagnosis.

        Raises:
            MalformedId, NotFound.
            Conflict: the job left no package, or not yet.
        """
        job = self.get(job_id)
        if "package" not in job:
            raise Conflict(
                f"Export job {job_id} is {job['status']} and has no package.",
                status=job["status"],
                error_code=job.get("error_code"),
            )
        name = f"{job['model_name']}-{job['model_version']}-{job['export_format']}.zip".replace("/", "-")
        return StoredFile.of(blob_of(job["package"]), name, self._blobs, "application/zip")


def _new_job(
    model: Document, export_format: str, options: Document, processing: Document, version_tag: str | None
) -> Document:
    file = model["file_metadata"]
    at = now()
    return {
        "_id": str(uuid.uuid4()),
        "trace_id": str(uuid.uuid4()),
        "model_id": model["_id"],
        "model_name": model["name"],
        "namespace": namespace_of(model["name"]),
        "model_version": model["version"],
        "framework": model["framework"],
        "task_type": model["task_type"],
        "training_job_id": model.get("training_job_id"),
        "version_tag": version_tag,
        "is_default": False,
        "export_format": export_format,
        "export_config": options,
        "processing": processing,
        "optimization_config": None,
        "validation_config": None,
        "source": {key: file[key] for key in ("file_id", "size_bytes", "checksum", "filename")},
        "status": ExportStatus.PENDING,
        "progress_percent": 0.0,
        "progress_message": "waiting for a worker",
        "attempts": 0,
        "log": [],
        "created_at": at,
        "updated_at": at,
    }


def _validate(
    export_format: str,
    options: Document,
    processing: Document,
    optimization_config: Document | None,
    validation_config: Document | None,
) -> Document:
    """The options with their defaults filled in. Raises: UnsupportedOption."""
    for name, given in (
        ("optimization_config", optimization_config),
        ("validation_config", validation_config),
    ):
        if given:
            raise UnsupportedOption(f"{name} offers nothing yet: leave it out.", field=name, allowed=[])
    try:
        check_postprocessing(processing["postprocessing"])
        ExportRequest.from_json({"source": "-", "output_dir": "-", "format": export_format, **processing})
        return registry.specification(export_format).validate(options)
    except ExporterRefusal as refusal:
        raise UnsupportedOption(refusal.message, **refusal.details) from None
