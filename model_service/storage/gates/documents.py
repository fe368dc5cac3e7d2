"""The documents of promotion gates and of approvals."""

import uuid
from datetime import datetime
from typing import NotRequired, cast

from typing_extensions import TypedDict

from model_service.storage.common.documents import Fields, StoredId


class ExportRule(TypedDict):
    """``format`` None: any. ``validated``: its validation on a dataset must have passed."""

    format: str | None
    validated: bool


class MetricRule(TypedDict):
    """A bound of a metric on a dataset version. Exactly one of ``min`` and ``max`` is set.

    ``of`` is ``model`` (the version itself) or ``export`` (the export that the gate requires).
    """

    dataset_id: StoredId
    dataset: str  # NAME/VERSION
    metric: str
    min: float | None
    max: float | None
    of: str


class Rules(TypedDict):
    """``max_p99_ms``: of the export, as the worker measured it. ``approvals``: distinct users."""

    verified_export: ExportRule | None
    metrics: list[MetricRule]
    max_p99_ms: float | None
    approvals: int


class Gate(TypedDict):
    """``_id`` is ``NAME@ALIAS``."""

    _id: str
    name: str
    namespace: str
    alias: str
    rules: Rules
    set_by: str
    created_at: datetime
    updated_at: datetime


class Approval(TypedDict):
    """One user's approval of one version for one alias.

    It holds for the files with this checksum, that of ``services.exports.requests.source_of``; None: the
    version has no file.
    """

    _id: str
    model_id: StoredId
    name: str
    namespace: str
    version: str
    alias: str
    source_checksum: str | None
    approved_by: str
    comment: NotRequired[str]
    created_at: datetime


def gate_id(name: str, alias: str) -> str:
    return f"{name}@{alias}"


def new_approval(fields: Fields, at: datetime) -> Approval:
    """Return a new approval. ``fields``: all but the id and the time; a comment of None is left out."""
    kept = {name: value for name, value in fields.items() if name != "comment" or value is not None}
    return cast(Approval, {"_id": str(uuid.uuid4()), **kept, "created_at": at})
