"""Inspection of a dataset's data file: can it be loaded, and what is in it?"""

import json
from contextlib import closing
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from model_service import tracing
from model_service.errors import is_disk_full
from model_service.jobs.command import INSPECTION
from model_service.jobs.context import CONTEXT, Context
from model_service.jobs.converter import Abandoned, Child, ConversionError
from model_service.jobs.source import fetch_dataset
from model_service.states import InspectionStatus, JobErrorCode
from model_service.storage.blobs.disk_space import WORK
from model_service.storage.common.db import CONNECTION_ERRORS
from model_service.storage.datasets.documents import Dataset, Found, data_file

log = structlog.get_logger(__name__)

_LEASE_S = 900.0
_TIME_S = 600.0  # the rest of the lease is for fetching the file
_MOST_ATTEMPTS = 3
_PAUSE_S = 20.0  # before the next attempt, after a fault of the service
_MAX_BYTES = 256 * 1024
_FOUND = TypeAdapter(Found)


def inspect(dataset_id: str) -> None:
    """Inspect the data file of a dataset, unless another worker has leased it."""
    context = CONTEXT.get()
    if context.disk.short(WORK):
        return  # the dataset keeps waiting, and the reconciler enqueues it again until there is space
    dataset = context.stores.inspections.begin(dataset_id, _LEASE_S)
    if dataset is None:
        return
    with tracing.span("inspection", {"model_service.dataset_id": dataset_id}):
        _inspect(context, dataset)


def _inspect(context: Context, dataset: Dataset) -> None:
    inspections, dataset_id = context.stores.inspections, str(dataset["_id"])
    inspection = dataset.get("inspection")
    assert inspection is not None  # begin has found it
    try:
        if inspection["attempts"] > _MOST_ATTEMPTS:
            _fail(context, dataset, "The inspection of the file did not finish.")
            return
        with closing(context.converter.start(INSPECTION)) as child:
            found = _ask(context, child, dataset)
        inspections.end(dataset, InspectionStatus.READY, _checked(found))
        log.info("inspection.done", dataset_id=dataset_id, samples=found.get("num_samples"))
    except Abandoned:
        inspections.put_back(dataset)
    except ConversionError as failure:
        log.info("inspection.failed", dataset_id=dataset_id, code=failure.code)
        _fail(context, dataset, failure.message)
    except CONNECTION_ERRORS as exc:
        log.warning("inspection.interrupted", dataset_id=dataset_id, error=str(exc))  # its lease expires
    except Exception as exc:
        if is_disk_full(exc):
            log.warning("inspection.disk_full", dataset_id=dataset_id)
            inspections.put_back(dataset)
            return
        log.exception("inspection.broken", dataset_id=dataset_id)
        if inspection["attempts"] < _MOST_ATTEMPTS:
            inspections.try_again(dataset, _PAUSE_S)
            return
        reason = (
            "The service failed while it inspected the file; its log has the cause under the dataset's id."
        )
        _fail(context, dataset, reason)


def _checked(found: dict[str, Any]) -> Found:
    """Return the child's result, without its first rows if they are too large to store.

    The child reads an untrusted file, so its result is not trusted.

    Raises:
        ConversionError: it is too large without the first rows, or has another form.
    """
    known = {name: found[name] for name in Found.__annotations__ if name in found}
    try:
        result = _FOUND.validate_python(known, strict=True)
    except ValidationError as exc:
        log.warning("inspection.invalid_result", error=str(exc))
        raise _unusable("The inspection returned an invalid description of the file.") from exc
    if _size(result) > _MAX_BYTES:
        result["first_rows"] = []
        result["warnings"] = [*result.get("warnings", []), "The first rows are too large to be shown."]
    if _size(result) > _MAX_BYTES:
        limit = f"{_MAX_BYTES // 1024} KiB"
        raise _unusable(f"The description is larger than {limit}: shorten the names of columns and classes.")
    return result


def _size(result: Found) -> int:
    return len(json.dumps(result, ensure_ascii=False).encode())


def _unusable(reason: str) -> ConversionError:
    return ConversionError(JobErrorCode.INVALID_DATASET, reason)


def _fail(context: Context, dataset: Dataset, reason: str) -> None:
    context.stores.inspections.end(dataset, InspectionStatus.FAILED, {"error": reason})


def _ask(context: Context, child: Child, dataset: Dataset) -> dict[str, Any]:
    """Return the child's result. Raises: as ``Child.convert``."""
    return child.convert(
        {"dataset": fetch_dataset(context.stores.blobs, data_file(dataset, "inspected"), child.workspace)},
        timeout_s=_TIME_S,
        on_progress=lambda event: None,
        on_step=lambda event: None,
        abandoned=context.stopping.is_set,
    )
