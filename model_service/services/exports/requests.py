"""Validation of export requests before a job exists, and the job document that stores them."""

import hashlib
import json
import uuid

from exporters import registry
from exporters.errors import UnsupportedOption as ExporterRefusal
from exporters.processing.embed import complete
from exporters.request import ExportRequest
from model_service.actor import actor, namespace_of
from model_service.errors import UnsupportedOption
from model_service.sentences import as_field
from model_service.states import ExportStatus
from model_service.storage.common.db import Document, now

FORMATS = tuple(specification.name for specification in registry.specifications())
# Parts of export_config that describe the model rather than the format; every package contains them.
PROCESSING = ("classes", "preprocessing", "postprocessing")
# The fields of a job that come from its request.
_ASKED = (
    *("model_id", "model_name", "namespace", "model_version", "framework", "task_type", "training_job_id"),
    *("export_format", "export_config", "processing", "optimization_config", "validation_config"),
    *("source", "version_tag"),
)
_FILE = ("path", "file_id", "size_bytes", "checksum")
# A file of a model version that is not part of the model: additional inputs for comparing its exports.
SAMPLE_INPUTS = "sample_inputs.npz"


def checked(
    export_format: str,
    export_config: Document,
    optimization_config: Document | None,
    validation_config: Document | None,
) -> tuple[Document, Document]:
    """Return the format's options with their defaults filled in, and the processing.

    Raises:
        UnsupportedOption: the format or an option is not offered; ``details.allowed`` lists what is.
    """
    options = dict(export_config)
    processing = {part: options.pop(part, None) for part in PROCESSING}
    if optimization_config:
        message = "optimization_config is not supported yet: remove it."
        raise UnsupportedOption(message, field="optimization_config", allowed=[])
    if is_wanted(validation_config):
        message = 'validation_config is not supported yet: remove it, or send {"enabled": false}.'
        raise UnsupportedOption(message, field="validation_config", allowed=[])
    try:
        known = registry.specification(export_format).validate(options)
        request = {"source": "-", "output_dir": "-", "format": export_format, **processing}
        parsed = ExportRequest.from_json(request)
        complete(parsed, known)
        return known, processing | {"classes": parsed.classes}
    except ExporterRefusal as refusal:
        raise UnsupportedOption(as_field(refusal.message), **refusal.details) from None


def is_wanted(validation_config: Document | None) -> bool:
    """Return whether validation is requested; ``{"enabled": false}`` disables it."""
    return bool(validation_config and validation_config.get("enabled") is not False)


def new_job(
    model: Document,
    export_format: str,
    options: Document,
    processing: Document,
    version_tag: str | None,
    validation_config: Document | None = None,
) -> Document:
    """Create a pending job for the caller. Its version is assigned when it is stored."""
    asked = {
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
        "optimization_config": None,
        "validation_config": validation_config or None,
        "source": source_of(model),
        "version_tag": version_tag,
    }
    return _pending(asked)


def again(job: Document) -> Document:
    """Create a pending job with the request of an ended one: the same source, the same options."""
    asked = {field: job[field] for field in _ASKED}
    # A retry keeps the trace id of the first job.
    return _pending(asked) | {"trace_id": job["trace_id"], "retry_of": job["_id"]}


def _pending(asked: Document) -> Document:
    at = now()
    return {
        "_id": str(uuid.uuid4()),
        "trace_id": str(uuid.uuid4()),
        "user_id": actor().name,
        **asked,
        "request_digest": _digest(asked),
        "is_default": False,
        "is_training_default": False,
        "status": ExportStatus.PENDING,
        "progress_percent": 0.0,
        "progress_message": "waiting for a worker",
        "attempts": 0,
        "log": [],
        "log_count": 0,
        "created_at": at,
        "updated_at": at,
    }


def source_of(model: Document) -> Document:
    """Return the source that the job fetches: the primary file, or all files if the version has several.

    The checksum of several files is the sha256 of the lines ``CHECKSUM  PATH``, sorted by path.
    """
    samples = [file for file in model["files"] if file["path"] == SAMPLE_INPUTS]
    others = [file for file in model["files"] if file["path"] != SAMPLE_INPUTS]
    if not samples or not others:
        return _files_of(model["file_metadata"], model["files"])
    primary = model["file_metadata"]
    if primary.get("path", primary["filename"]) == SAMPLE_INPUTS:  # the sample inputs were uploaded first
        primary = {"filename": others[0]["path"].rpartition("/")[2], **others[0]}
    reference = {key: samples[0][key] for key in ("file_id", "size_bytes", "checksum")}
    return {**_files_of(primary, others), "sample_inputs": reference}


def _files_of(primary: Document, stored: list[Document]) -> Document:
    if len(stored) < 2:
        return {key: primary[key] for key in ("file_id", "size_bytes", "checksum", "filename")}
    files = sorted(({key: file[key] for key in _FILE} for file in stored), key=lambda f: f["path"])
    lines = "".join(f"{file['checksum']}  {file['path']}\n" for file in files)
    return {
        "files": files,
        "primary": primary.get("path", primary["filename"]),
        "filename": primary["filename"],
        "size_bytes": sum(file["size_bytes"] for file in files),
        "checksum": f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}",
    }


def _digest(asked: Document) -> str:
    """Return the digest of everything except the tools that determines a package's bytes.

    The model's id is included because the package contains its name.
    """
    source = {key: asked["source"].get(key) for key in ("checksum", "filename", "primary")}
    if "sample_inputs" in asked["source"]:
        source["sample_inputs"] = asked["source"]["sample_inputs"]["checksum"]
    names = [name for name in _ASKED if name not in {"source", "version_tag", "training_job_id"}]
    decisive = {"source": source, **{name: asked[name] for name in names}, "model_id": str(asked["model_id"])}
    if not is_wanted(asked["validation_config"]):
        decisive["validation_config"] = None
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
