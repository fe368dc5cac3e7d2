"""/api/v1/datasets"""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, page_limit, services
from model_service.api.idempotency import mark, requested_once
from model_service.api.revisions import demanded_revisions, not_modified, tagged
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
from model_service.api.urls import link

api = APIBlueprint("datasets", __name__, url_prefix="/api/v1/datasets", abp_tags=[Tag(name="datasets")])


def _answer(dataset: dict[str, Any], status: int = 200) -> Response:
    body = Dataset.model_validate(dataset).model_dump_json(by_alias=True)
    return tagged(Response(body, status, mimetype="application/json"), dataset["revision"])


@api.post("", responses={201: Dataset})
def register_dataset(body: NewDataset) -> Response:
    """Register a dataset version. With Idempotency-Key, once however often it is sent."""
    once = requested_once()
    dataset = services().datasets.register(body.model_dump(by_alias=True), once)
    response = _answer(dataset, 201)
    response.headers["Location"] = link(f"/api/v1/datasets/{dataset['_id']}")
    return mark(response, once)


@api.get("", responses={200: DatasetPage})
def list_datasets(query: DatasetQuery) -> Response:
    """List dataset versions, newest first."""
    page = services().datasets.page(query.filters(), query.page, page_limit(query))
    datasets = [Dataset.model_validate(dataset) for dataset in page.items]
    body = DatasetPage(datasets=datasets, pagination=Pagination.of(page))
    return Response(body.model_dump_json(by_alias=True), mimetype="application/json")


@api.get("/<dataset_ref:dataset_id>", responses={200: Dataset, 304: None})
def get_dataset(path: DatasetPath) -> Response:
    """Read one dataset version: by its id, datasets:/NAME/v1.2 or datasets:/NAME/latest."""
    dataset = services().datasets.get(path.dataset_id)
    return not_modified(dataset["revision"]) or _answer(dataset)


@api.put("/<dataset_ref:dataset_id>", responses={200: Dataset})
def update_dataset(path: DatasetPath, body: DatasetChanges) -> Response:
    """Change the metadata that is sent; name and version stay. If-Match is honoured."""
    return _change(path, body)


@api.patch("/<dataset_ref:dataset_id>", responses={200: Dataset})
def patch_dataset(path: DatasetPath, body: DatasetChanges) -> Response:
    """Change the fields that are sent; null clears one that may be empty. If-Match is honoured."""
    return _change(path, body)


def _change(path: DatasetPath, body: DatasetChanges) -> Response:
    changes = body.model_dump(exclude_unset=True, by_alias=True)
    return _answer(services().datasets.update(path.dataset_id, changes, revisions=demanded_revisions()))


@api.delete("/<dataset_ref:dataset_id>", responses={200: Deleted})
def delete_dataset(path: DatasetPath) -> Response:
    """Remove a dataset version that nothing was made with, and its files."""
    deleted_id = services().datasets.delete(path.dataset_id)
    return answer(Deleted(message="Dataset deleted successfully", deleted_id=deleted_id))


@api.get("/<dataset_ref:dataset_id>/usage", responses={200: DatasetUsage})
def get_dataset_usage(path: DatasetPath, query: UsageQuery) -> Response:
    """The training jobs that used it, and the models that were made from it."""
    found = services().datasets.usage(path.dataset_id, query.limit)
    usage = DatasetUsage(
        dataset_id=found["dataset"]["_id"],
        name=found["dataset"]["name"],
        version=found["dataset"]["version"],
        training_jobs=[UsingJob.model_validate(job) for job in found["training_jobs"]],
        models=[UsingModel.model_validate(model) for model in found["models"]],
        truncated=found["truncated"],
    )
    return answer(usage)
