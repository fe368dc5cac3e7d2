"""Validation of export requests before a job exists, and the job document that stores them."""

import hashlib
import json
from typing import cast

from exporters import optimize, registry
from exporters.errors import UnsupportedOption as ExporterRefusal
from exporters.options import SOURCE_OPTIONS
from exporters.processing.embed import complete
from exporters.request import ExportRequest
from model_service.actor import actor, namespace_of
from model_service.errors import UnsupportedOption
from model_service.jobs.conversion import PROCESSING
from model_service.sentences import as_field
from model_service.services.exports.data_options import OnData, is_wanted
from model_service.storage.common.db import now
from model_service.storage.common.documents import (
    Fields,
    JobSource,
    JobTeacher,
    JSONObject,
    PrimaryFile,
    StoredFile,
    path_of,
)
from model_service.storage.exports.documents import ExportJob, JobRequest, new_export_job
from model_service.storage.models.documents import Model
from model_service.tracing import current

FORMATS = tuple(specification.name for specification in registry.specifications())
# The fields of a job that come from its request.
_REQUEST_FIELDS = (
    *("model_id", "model_name", "namespace", "model_version", "framework", "task_type", "training_job_id"),
    *("export_format", "export_config", "processing", "optimization_config", "validation_config"),
    *("source", "version_tag"),
)
# A file of a model version that is not part of the model: additional inputs for comparing its exports.
SAMPLE_INPUTS = "sample_inputs.npz"


def checked(export_format: str, export_config: JSONObject) -> tuple[JSONObject, JSONObject]:
    """Return the format's options with their defaults, and the parts of ``export_config`` in PROCESSING.

    Raises:
        UnsupportedOption: the format or an option is not offered; ``details.allowed`` lists what is.
    """
    options = dict(export_config)
    processing: JSONObject = {part: options.pop(part, None) for part in PROCESSING}
    try:
        known = registry.specification(export_format).validate(options)
        request = {"source": "-", "output_dir": "-", "format": export_format, **processing}
        parsed = ExportRequest.from_json(request)
        complete(parsed, known)
        processing["classes"] = None if parsed.classes is None else [*parsed.classes]
        return known, processing
    except ExporterRefusal as refusal:
        raise UnsupportedOption(as_field(refusal.message), **refusal.details) from None


def checked_source(config: JSONObject) -> JSONObject:
    """Return the parts of ``export_config`` that describe the model's own files, checked.

    Raises:
        UnsupportedOption: another key, or a wrong value.
    """
    allowed = sorted({*SOURCE_OPTIONS, *PROCESSING})
    for name in config:
        if name not in allowed:
            raise UnsupportedOption(
                f"source_config has no {name[:40]!r}: use {', '.join(allowed)}.",
                allowed=allowed,
                option=name,
            )
    options, processing = checked("onnx", config)
    described = {**processing, **{name: options[name] for name in SOURCE_OPTIONS}}
    return {name: value for name, value in described.items() if value is not None}


def new_job(
    model: Model,
    export_format: str,
    options: JSONObject,
    processing: JSONObject,
    version_tag: str | None,
    on_data: OnData,
    *,
    teacher: JobTeacher | None,
    reuse: bool,
) -> ExportJob:
    """Create a pending job for the caller. Its version is assigned when it is stored."""
    request: JobRequest = {
        "model_id": model["_id"],
        "model_name": model["name"],
        "namespace": namespace_of(model["name"]),
        "model_version": model["version"],
        "framework": model["framework"],
        "task_type": model["task_type"],
        "training_job_id": model.get("training_job_id"),
        "export_format": export_format,
        "export_config": options,
        "processing": processing,
        "optimization_config": on_data.optimization,
        "validation_config": on_data.validation,
        "source": source_of(model),
        "version_tag": version_tag,
    }
    if on_data.datasets:
        request["datasets"] = on_data.datasets
    if teacher is not None:
        request["teacher"] = teacher
    return _job(request, reuse=reuse)


def again(job: ExportJob) -> ExportJob:
    """Create a pending job with the request of an ended one: the same source, the same options."""
    fields: Fields = job
    names = (*_REQUEST_FIELDS, "datasets", "teacher")
    kept = {field: fields[field] for field in names if field in fields}
    return _job(cast(JobRequest, kept), reuse=True, retry_of=job)


def _job(request: JobRequest, *, reuse: bool, retry_of: ExportJob | None = None) -> ExportJob:
    return new_export_job(
        request,
        _digest(request),
        actor().name,
        now(),
        reuse=reuse,
        hardware=optimize.hardware_of(request["optimization_config"]),
        retry_of=retry_of,
        trace=current(),
    )


def source_of(model: Model) -> JobSource:
    """Return the source that the job fetches: the primary file, or all files if the version has several.

    The checksum of several files is the sha256 of the lines ``CHECKSUM  PATH``, sorted by path.
    """
    samples = [file for file in model["files"] if file["path"] == SAMPLE_INPUTS]
    others = [file for file in model["files"] if file["path"] != SAMPLE_INPUTS]
    primary = model["file_metadata"]
    assert primary is not None  # an export begins with a model that has a file
    if not samples or not others:
        return _files_of(primary, model["files"])
    if path_of(primary) == SAMPLE_INPUTS:  # the sample inputs were uploaded first
        primary = _as_primary(others[0], primary["format"])
    sample = samples[0]
    source = _files_of(primary, others)
    source["sample_inputs"] = {
        "file_id": sample["file_id"],
        "size_bytes": sample["size_bytes"],
        "checksum": sample["checksum"],
    }
    return source


def _as_primary(file: StoredFile, file_format: str) -> PrimaryFile:
    return {
        "path": file["path"],
        "file_id": file["file_id"],
        "size_bytes": file["size_bytes"],
        "checksum": file["checksum"],
        "filename": file["path"].rpartition("/")[2],
        "format": file_format,
    }


def _stored(file: StoredFile) -> StoredFile:
    """Return the entry without what does not concern an export."""
    return {
        "path": file["path"],
        "file_id": file["file_id"],
        "size_bytes": file["size_bytes"],
        "checksum": file["checksum"],
    }


def _files_of(primary: PrimaryFile, stored: list[StoredFile]) -> JobSource:
    if len(stored) < 2:
        return {
            "file_id": primary["file_id"],
            "size_bytes": primary["size_bytes"],
            "checksum": primary["checksum"],
            "filename": primary["filename"],
        }
    files = sorted((_stored(file) for file in stored), key=lambda file: file["path"])
    lines = "".join(f"{file['checksum']}  {file['path']}\n" for file in files)
    return {
        "files": files,
        "primary": path_of(primary),
        "filename": primary["filename"],
        "size_bytes": sum(file["size_bytes"] for file in files),
        "checksum": f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}",
    }


def _decisive(source: JobSource) -> dict[str, object]:
    fields: Fields = source
    return {key: fields.get(key) for key in ("checksum", "filename", "primary")}


def _digest(request: JobRequest) -> str:
    """Return the digest of everything except the tools that determines a package's bytes.

    The model's id is included because the package contains its name.
    """
    of_request: Fields = request
    source = _decisive(request["source"])
    if "sample_inputs" in request["source"]:
        source["sample_inputs"] = request["source"]["sample_inputs"]["checksum"]
    names = [name for name in _REQUEST_FIELDS if name not in {"source", "version_tag", "training_job_id"}]
    decisive = {"source": source, **{name: of_request[name] for name in names}}
    decisive["model_id"] = str(request["model_id"])
    if not is_wanted(request["validation_config"]):
        decisive["validation_config"] = None
    if "datasets" in request:
        described = ("role", "checksum", "name", "version", "format", "schema", "task_type")
        decisive["datasets"] = [
            {name: value for name, value in dataset.items() if name in described}
            for dataset in request["datasets"]
        ]
    if "teacher" in request:
        teacher = request["teacher"]
        named = {"name": teacher["name"], "version": teacher["version"]}
        decisive["teacher"] = {**_decisive(teacher), **named}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
