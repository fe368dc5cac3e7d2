"""Version 2: exports also have numbers per training job, and blobs have descriptions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

from model_service.storage.blobs.descriptions import describe_all
from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument, Fields
from model_service.storage.exports.documents import ExportJob
from model_service.storage.migrations.base import Migration

_FIELDS = (
    "created_at",
    "updated_at",
    "training_job_id",
    "training_version",
    "is_default",
    "is_training_default",
)


def _upgrade_exports(database: Database, documents: Sequence[AnyDocument]) -> list[AnyDocument]:
    """Number the exports. Stored ones, as of an archive's earlier batches, keep their numbers."""
    jobs = [cast(ExportJob, document) for document in documents]
    old = [job for job in jobs if "is_training_default" not in job]
    sources = list({source for job in old if (source := job.get("training_job_id"))})
    stored = database.export_jobs.find({"training_job_id": {"$in": sources}}, _FIELDS)
    known = {job["_id"]: job for job in (*stored, *jobs)}
    siblings: dict[str | None, list[ExportJob]] = defaultdict(list)
    for job in known.values():
        siblings[job.get("training_job_id")].append(job)
    new = {job_id: fields for source in sources for job_id, fields in _numbered(siblings[source])}
    added = {job["_id"]: {"is_training_default": False, **new.get(job["_id"], {})} for job in old}
    return [
        document | added[job["_id"]] if job["_id"] in added else document
        for document, job in zip(documents, jobs, strict=True)
    ]


def _numbered(jobs: list[ExportJob]) -> Iterator[tuple[str, Fields]]:
    """Yield numbers for the exports of one training job, in order of creation, and mark its default."""
    taken = {job["training_version"] for job in jobs if "training_version" in job}
    newest = None
    if not any(job.get("is_training_default") for job in jobs):
        defaults = [job for job in jobs if job.get("is_default")]
        newest = max(defaults, key=lambda job: (job["updated_at"], job["_id"]), default=None)
    for rank, job in enumerate(sorted(jobs, key=lambda job: (job["created_at"], job["_id"])), 1):
        if "training_version" not in job:
            number = rank if rank not in taken else max(taken) + 1
            taken.add(number)
            yield job["_id"], {"training_version": number, "is_training_default": job is newest}


MIGRATION = Migration(
    version=2,
    name="exports of training jobs, names of blobs",
    documents={"export_jobs": _upgrade_exports},
    derive=describe_all,
)
