"""/api/v1/datasets"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.urls import link
from model_service.api.models.revisions import demanded_revisions, not_modified, tagged
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.datasets import (
    Dataset,
    DatasetChanges,
    DatasetPage,
    DatasetPath,
    DatasetQuery,
    DatasetUsage,
    NewDataset,
    UsageQuery,
    UsingJob,
    UsingModel,
)
from model_service.services.datasets.datasets import SentDataset

api = APIBlueprint("datasets", __name__, url_prefix="/api/v1/datasets", abp_tags=[Tag(name="datasets")])


def _answer(dataset: Mapping[str, Any], status: int = 200) -> Response:
    body = Dataset.model_validate(dataset).model_dump_json(by_alias=True)
    return tagged(Response(body, status, mimetype="application/json"), dataset["revision"])


@api.post("", responses={201: Dataset})
@policy(Permission.WRITE)
def register_dataset(body: NewDataset) -> Response:
    """Register a dataset version.

    Needs `name`. Without `version` the name gets its next minor version, from `v1.0` on. `Idempotency-Key`
    is supported.
    """
    once = requested_once()
    dataset = services().datasets.register(cast(SentDataset, body.model_dump(by_alias=True)), once)
    response = _answer(dataset, 201)
    response.headers["Location"] = link(f"/api/v1/datasets/{dataset['_id']}")
    return mark(response, once)


@api.get("", responses={200: DatasetPage})
@policy(Permission.READ)
def list_datasets(query: DatasetQuery) -> Response:
    """List dataset versions.

    A page, newest first. All filters of a request must match.
    """
    page = services().datasets.page(query.filters(), query.page, page_limit(query))
    datasets = [Dataset.model_validate(dataset) for dataset in page.items]
    body = DatasetPage(datasets=datasets, pagination=Pagination.of(page))
    return Response(body.model_dump_json(by_alias=True), mimetype="application/json")


@api.get("/<dataset_ref:dataset_id>", responses={200: Dataset, 304: None})
@policy(Permission.READ)
def get_dataset(path: DatasetPath) -> Response:
    """Read a dataset version.

    The id may be a reference: `NAME/v1.2` or `NAME/latest`. The `ETag` is the dataset's `revision`;
    `If-None-Match` with it gives 304.
    """
    dataset = services().datasets.get(path.dataset_id)
    return not_modified(dataset["revision"]) or _answer(dataset)


@api.put("/<dataset_ref:dataset_id>", responses={200: Dataset})
@policy(Permission.WRITE)
def update_dataset(path: DatasetPath, body: DatasetChanges) -> Response:
    """Change a dataset version.

    The same as PATCH: fields that are not sent stay as they are.
    """
    return _change(path, body)


@api.patch("/<dataset_ref:dataset_id>", responses={200: Dataset})
@policy(Permission.WRITE)
def patch_dataset(path: DatasetPath, body: DatasetChanges) -> Response:
    """Change some fields of a dataset version.

    Each sent field is replaced as a whole; `null` clears a field that may be empty. Name and version cannot
    change. `If-Match` is supported.
    """
    return _change(path, body)


def _change(path: DatasetPath, body: DatasetChanges) -> Response:
    changes = body.model_dump(exclude_unset=True, by_alias=True)
    return _answer(services().datasets.update(path.dataset_id, changes, revisions=demanded_revisions()))


@api.delete("/<dataset_ref:dataset_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def delete_dataset(path: DatasetPath) -> Response:
    """Delete a dataset version.

    Removes the version and its files at once; there is no trash for datasets. 409 while a training job or a
    model refers to it, also a model in the trash. The version number is not used again.
    """
    deleted_id = services().datasets.delete(path.dataset_id)
    return answer(Deleted(message="Dataset deleted successfully", deleted_id=deleted_id))


@api.get("/<dataset_ref:dataset_id>/usage", responses={200: DatasetUsage})
@policy(Permission.READ)
def get_dataset_usage(path: DatasetPath, query: UsageQuery) -> Response:
    """List the uses of a dataset version.

    Training jobs that used it, with its roles there, and models that refer to it or came from one of these
    jobs: the newest `limit` (100, at most 200) of each. `truncated` is true if there are more.
    """
    found = services().datasets.usage(path.dataset_id, query.limit)
    usage = DatasetUsage(
        dataset_id=str(found["dataset"]["_id"]),
        name=found["dataset"]["name"],
        version=found["dataset"]["version"],
        training_jobs=[UsingJob.model_validate(job) for job in found["training_jobs"]],
        models=[UsingModel.model_validate(model) for model in found["models"]],
        truncated=found["truncated"],
    )
    return answer(usage)
