"""The document of a deployment: its configuration, its revisions, and their packages.

{_id, user_id, name, display_name, description, deployment_type, status, namespace, export_job_id, model_name,
model_version (of the first member), config, routing, revision, revisions: [{revision, routing, config,
created_at, created_by, live_at, rolled_back, failed}], live_revision, error_message, request_count,
error_count, last_request_at, total_inference_time_ms, created_at, updated_at, deployed_at, deactivated_at}

``display_name`` is the name that ``name`` was derived from; null or missing if ``name`` was given directly.

``routing`` is {mode, members: [{name, export_job_id, model_name, model_version, format, package, weight,
inputs}], sticky_header, shadow: a member and its ``share``, rollback}. ``config`` and ``routing`` repeat
those of the newest revision. Only the revisions hold packages, one reference for each occurrence.
"""

from collections.abc import Iterable
from typing import Any

from model_service.storage.common.db import Document

KEPT_REVISIONS = 5
DEFAULT_CONFIG: Document = {
    "gpu_enabled": False,
    # Also ``initial_replicas``, if it was sent.
    "auto_scaling": {"min_replicas": 1, "max_replicas": 1, "target_utilization": 70},
    "batching": {"max_batch_size": 16, "max_delay_ms": 0},
    "max_concurrency": 64,
    "timeout_ms": 30_000,
}
DEFAULT_WEIGHT = 100


def new_revision(number: int, routing: Document, config: Document, by: str, at: Any) -> Document:
    """Return a revision that no server serves yet."""
    return {
        "revision": number,
        "routing": routing,
        "config": config,
        "created_at": at,
        "created_by": by,
        "live_at": None,
        "rolled_back": False,
        "failed": False,
    }


def of_first_member(routing: Document) -> Document:
    """Return the fields of the document that describe its first member."""
    first = routing["members"][0]
    return {field: first[field] for field in ("export_job_id", "model_name", "model_version")}


def packages_of(revisions: Iterable[Document]) -> list[Any]:
    """Return the ids of the blobs that these revisions hold, once for each occurrence."""
    return [
        member["package"]["file_id"]
        for revision in revisions
        for member in (*revision["routing"]["members"], revision["routing"].get("shadow"))
        if member is not None
    ]


def kept(revisions: list[Document], live: int | None) -> list[Document]:
    """Return the newest KEPT_REVISIONS. If the live revision or the target of an automatic rollback is older,
    it takes the place of the oldest of these.
    """
    back = former(revisions[-1] | {"revisions": revisions})
    needed = {live} if back is None else {live, back["revision"]}
    older = [entry for entry in revisions[:-KEPT_REVISIONS] if entry["revision"] in needed]
    return [*older, *revisions[-KEPT_REVISIONS:][len(older) :]]


def marked(revisions: list[Document], number: int, **fields: Any) -> list[Document]:
    return [entry | fields if entry["revision"] == number else entry for entry in revisions]


def former(document: Document) -> Document | None:
    """Return the newest earlier revision with other traffic that was served and not rolled back from.

    Returns None if there is none. A revision with the same traffic as one that was rolled back from is
    skipped too, unless that traffic was served again since: then a user chose it again, or only its
    ``config`` was bad.
    """
    judged = [_traffic(document)]
    revisions: list[Document] = document["revisions"]
    for entry in reversed(revisions):
        is_earlier = entry["revision"] < document["revision"]
        if not is_earlier or _traffic(entry) in judged:
            continue
        if entry["rolled_back"]:
            judged.append(_traffic(entry))
        elif entry["live_at"] is not None:
            return entry
    return None


def restored_config(entry: Document, document: Document) -> Document:
    """Return the revision's configuration with the present number of replicas."""
    config: Document = entry["config"] | {"auto_scaling": document["config"]["auto_scaling"]}
    return config


def _traffic(entry: Document) -> Any:
    routing = entry["routing"]
    return routing["mode"], routing["members"]
