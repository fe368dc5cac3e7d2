"""Create, find and retry export jobs, and open their packages."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import cast

from model_service.actor import Permission, may_read, require
from model_service.errors import Conflict, InvalidField, NotFound
from model_service.jobs.export import export
from model_service.jobs.queue import EXPORTS, Queue
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.ids import parse_uuid
from model_service.services.common.paging import Page, readable
from model_service.services.common.signing import Signing
from model_service.services.datasets.data_files import DataFiles, Needs
from model_service.services.exports.capabilities import CapabilityService
from model_service.services.exports.data_options import check_hardware, checked_on_data
from model_service.services.exports.limits import ExportLimits
from model_service.services.exports.requests import again, checked, new_job, source_of
from model_service.services.exports.teachers import Teachers
from model_service.services.exports.toolchains import Toolchains
from model_service.services.files.files import StoredFile
from model_service.services.files.held import HeldFiles
from model_service.services.models.models import ModelService
from model_service.services.models.origins import Origins
from model_service.states import ExportStatus
from model_service.storage.blobs.blobs import blob_of
from model_service.storage.blobs.descriptions import package_name
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields, JSONObject, blobs_of_source, changed
from model_service.storage.exports.documents import ExportJob, Interface
from model_service.storage.exports.exports import answered_from
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores


class ExportService:
    def __init__(
        self,
        stores: Stores,
        models: ModelService,
        files: HeldFiles[Model],
        origins: Origins,
        *,
        queue: Queue,
        limits: ExportLimits,
        toolchains: Toolchains,
        idempotency: Idempotency,
        signing: Signing,
        data_files: DataFiles,
    ) -> None:
        self._database = stores.database
        self._exports = stores.exports
        self._blobs = stores.blobs
        self._audit = stores.audit
        self._models = models
        self._files = files
        self._origins = origins
        self._queue = queue
        self._limits = limits
        self._toolchains = toolchains
        self._idempotency = idempotency
        self._signing = signing
        self._data_files = data_files
        self._teachers = Teachers(files, stores.exports, data_files)

    def create(
        self,
        *,
        model_id: str | None,
        training_job_id: str | None,
        export_format: str,
        export_config: JSONObject,
        optimization_config: JSONObject | None,
        validation_config: JSONObject | None,
        version_tag: str | None,
        reuse: bool = True,
        once: Once | None = None,
    ) -> ExportJob:
        """Store a pending job and wake a worker.

        If an equal export by the same tools exists, the new job is completed at once with that package.

        Args:
            reuse: False converts in any case.

        Raises:
            MalformedId, NotFound: the id is malformed, or the model, file or training job does not exist.
            NotPermitted: the caller may not write the model.
            UnsupportedOption: the format or an option is not offered, or the model's framework cannot be
                converted to that format; ``details.allowed`` lists what is offered.
            InvalidField: no source is given, or two; or a dataset or a teacher does not fit the model.
            Conflict: no worker has inspected a dataset yet.
            ExportLimitReached: the caller has as many exports as their tier allows.
        """
        if (model_id is None) == (training_job_id is None):
            raise InvalidField.of("model_id", "needs exactly one of model_id and training_job_id")
        options, processing = checked(export_format, export_config)

        def make(note: Note) -> ExportJob:
            source = model_id
            if source is None:
                source = self._origins.newest_model_with_file(str(training_job_id))
            model = self._files.get_with_file(source)
            require(Permission.WRITE, model["name"])
            file = model["file_metadata"]
            assert file is not None  # get_with_file has checked it
            CapabilityService.check_possible(model["framework"], file["filename"], export_format)
            needs = self._needs(model, options, processing)
            on_data = checked_on_data(
                export_format,
                options,
                optimization_config,
                validation_config,
                self._data_files,
                needs,
                self._toolchains.hardware,
            )
            teacher = self._teachers.of(on_data.optimization, model, preprocessed=needs.preprocessed)
            job = new_job(
                model,
                export_format,
                options,
                processing,
                version_tag,
                on_data,
                teacher=teacher,
                reuse=reuse,
            )
            return self._store(job, note, lambda: NotFound("file of model", source))

        return self._idempotency.run(once, make, self.get)

    def _needs(self, model: Model, options: JSONObject, processing: JSONObject) -> Needs:
        declared = cast("list[Interface] | None", options.get("inputs"))
        inputs = declared or self._exports.inputs_of(model["_id"], source_of(model)["checksum"])
        return Needs(model["task_type"], inputs, bool(processing["preprocessing"]))

    def retry(self, job_id: str, once: Once | None = None) -> ExportJob:
        """Repeat a failed or cancelled export as a new job. The ended job is not changed.

        Raises:
            MalformedId, NotPermitted, ExportLimitReached.
            NotFound: the job, its teacher or one of its datasets is missing or not readable.
            InvalidField: no running worker has the hardware that the request names.
            Conflict: the job has not ended, or it was completed; or a file that it reads is gone.
        """

        def make(note: Note) -> ExportJob:
            job = self.get(job_id)
            require(Permission.WRITE, job["model_name"])
            if job["status"] not in (ExportStatus.FAILED, ExportStatus.CANCELLED):
                raise Conflict(
                    f"Export job {job_id} is {job['status']}: only a failed or cancelled one can be retried.",
                    status=job["status"],
                )
            for dataset in job.get("datasets", []):
                if not may_read(dataset["name"]):
                    raise NotFound("dataset", str(dataset["dataset_id"]))
            teacher = job.get("teacher")
            if teacher is not None and not may_read(teacher["name"]):
                raise NotFound("model", str(teacher["model_id"]))
            check_hardware(job["optimization_config"], self._toolchains.hardware)
            gone = Conflict("The exported file no longer exists: upload it again, and create a new export.")
            return self._store(again(job), note, lambda: gone)

        return self._idempotency.run(once, make, self.get)

    def _store(self, job: ExportJob, note: Note, gone: Callable[[], Exception]) -> ExportJob:
        equal = None
        if job["reuse"]:
            equal = self._exports.find_equal(job, self._toolchains.digests())
        token = hashlib.sha256(self.callback_token(job["_id"]).encode()).hexdigest()
        results = answered_from(equal) if equal is not None else {}
        document = changed(job, {"callback_token_sha256": token, **results})

        def work(session: Session) -> None:
            note(document["_id"], session)
            if equal is None:
                self._limits.check(session)
                self._hold_files(document, gone, session)
            elif not self._blobs.retain_all([equal["package"]["file_id"]], session):
                raise gone()
            self._exports.insert(document, session)
            self._audit.record(
                "created",
                "export_job",
                document["_id"],
                session=session,
                name=document["model_name"],
                details={"format": document["export_format"], "model_id": str(document["model_id"])},
            )

        self._database.transaction(work)
        if equal is None:
            self._queue.enqueue(EXPORTS, export, document["_id"])
        return document

    def _hold_files(self, job: ExportJob, gone: Callable[[], Exception], session: Session) -> None:
        """Add a pending job's references to its files, so that a model deleted meanwhile is still converted.

        Raises:
            Conflict: a file of a dataset or of the teacher no longer exists. ``gone()``: one of the model.
        """
        if not self._blobs.retain_all(blobs_of_source(job["source"]), session):
            raise gone()
        teacher = job.get("teacher")
        if teacher is not None and not self._blobs.retain_all(blobs_of_source(teacher), session):
            raise Conflict(
                f"A file of the teacher {teacher['name']}/{teacher['version']} was replaced or removed: "
                "create a new export with its present files.",
                model_id=str(teacher["model_id"]),
            )
        for dataset in job.get("datasets", []):
            if not self._blobs.retain_all([dataset["file_id"]], session):
                name = f"{dataset['name']}/{dataset['version']}"
                raise Conflict(
                    f"The file of dataset {name} was replaced or removed: create a new export with its "
                    "present file.",
                    dataset_id=str(dataset["dataset_id"]),
                )

    def callback_token(self, job_id: str) -> str:
        """Return the token by which an external converter authenticates; the job's creator receives it."""
        digest = hmac.digest(self._signing.key("export-callback"), job_id.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def get(self, job_id: str) -> ExportJob:
        """Return an export job. Raises: MalformedId, NotFound."""
        job = self._exports.get(parse_uuid("export job", job_id))
        if job is None or not may_read(job["model_name"]):
            raise NotFound("export job", job_id)
        return job

    def search(self, filters: Fields, *, page: int, limit: int) -> Page[ExportJob]:
        """Return the matching jobs that the caller may read, newest first.

        Args:
            filters: fields and their values; ``model_id`` may be a reference; None means no filter.

        Raises:
            MalformedId, InvalidRequest, NotFound: the model's id is malformed or the model does not exist.
        """
        query = readable() | {field: value for field, value in filters.items() if value is not None}
        if "model_id" in query:
            query["model_id"] = self._models.id_of(str(query["model_id"]))
        items, total = self._exports.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def of_model(self, reference: str, filters: Fields, *, page: int, limit: int) -> Page[ExportJob]:
        """Return the export jobs of one model.

        Raises:
            MalformedId, InvalidRequest, NotFound: the model's id is malformed or the model does not exist.
        """
        model_id = self._models.get(reference)["_id"]
        return self.search({**filters, "model_id": str(model_id)}, page=page, limit=limit)

    def of_training_job(self, job_id: str, filters: Fields, *, page: int, limit: int) -> Page[ExportJob]:
        """Return the export jobs of all models of a training job.

        The filter ``is_default`` finds the default of the training job, not the default of each model.

        Raises:
            MalformedId, NotFound: the id is malformed or the training job does not exist.
        """
        wanted = {**filters, "is_training_default": filters.get("is_default"), "is_default": None}
        wanted["training_job_id"] = self._origins.training_job(job_id)["_id"]
        return self.search(wanted, page=page, limit=limit)

    def open_package(self, job_id: str) -> StoredFile:
        """Open the package as a zip. A job whose verification failed has one too, for diagnosis.

        Raises:
            MalformedId, NotFound.
            Conflict: the job has no package, or not yet.
        """
        job = self.get(job_id)
        if "package" not in job:
            raise Conflict(
                f"Export job {job_id} is {job['status']} and has no package.",
                status=job["status"],
                error_code=job.get("error_code"),
            )
        return StoredFile.of(blob_of(job["package"]), package_name(job), self._blobs, "application/zip")
