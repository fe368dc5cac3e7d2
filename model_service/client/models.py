"""Calls on models.

Each ``model_id`` is an id, ``NAME@ALIAS``, ``NAME/v1.2`` or ``NAME/latest``, with or without the prefix
``models:/``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.records import Page, named
from model_service.client.references import url_of
from model_service.client.types import DeletedModel, Model

MODELS = "/api/v1/models"


def model_url(model_id: str) -> str:
    return url_of("models", model_id)


class ModelCalls(Calls):
    def register_model(
        self,
        model_data: str | Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> str:
        """Register a version, and return its id.

        ``name`` and ``algorithm`` are required. Without a version, the next minor one is chosen or, with
        ``breaking_changes``, the next major one. Other fields: framework, task_type, description,
        hyperparameters, metrics, dataset_info, signature, tags, status, parent_model_id, training_job_id,
        dataset_ids, created_by. They are passed in ``model_data``, as keywords, or both; ``model_data`` may
        also be only the name.

        Args:
            idempotency_key: another call with the same key and fields within a day registers nothing new.

        Raises:
            Conflict: this name and version exist already.
            NotFound: the parent, the training job or a dataset does not exist.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        return _registered(self._transport.create(MODELS, named(model_data, fields), idempotency_key))

    def new_version(
        self,
        model_id: str,
        *,
        copy_files: bool = False,
        breaking_changes: bool = False,
        idempotency_key: str | None = None,
        **changes: Any,
    ) -> str:
        """Create a version from this one, and return its id.

        The new version has this one's fields, replaced by ``changes``, and this one as its parent; with
        ``copy_files`` also its files. Raises as ``register_model``.
        """
        data = {"copy_files": copy_files, "breaking_changes": breaking_changes, **changes}
        url = f"{model_url(model_id)}/versions"
        return _registered(self._transport.create(url, data, idempotency_key))

    def get_model(self, model_id: str) -> Model:
        return Model.from_json(self._transport.json("GET", model_url(model_id)))

    def update_model(self, model_id: str, *, revision: int | None = None, **changes: Any) -> Model:
        """Change the given fields, each as a whole; None clears an optional field.

        Args:
            revision: change it only if it still has this revision, so that no other change is overwritten.

        Raises:
            PreconditionFailed: it has another revision, possibly from an earlier try whose response was lost.
            Conflict: its status cannot change to that one; ``details["allowed"]`` lists the possible ones.
        """
        headers = {} if revision is None else {"If-Match": f'"r{revision}"'}
        return Model.from_json(
            self._transport.json("PUT", model_url(model_id), data=changes, headers=headers)
        )

    def delete_model(self, model_id: str, *, purge: bool = False) -> dict[str, Any]:
        """Move a version to the trash; with ``purge``, remove it permanently, also from the trash.

        NotFound may mean that an earlier try, whose response was lost, deleted it.
        """
        query = {"purge": True} if purge else None
        return self._transport.json("DELETE", model_url(model_id), query=query)

    def restore_model(self, model_id: str) -> Model:
        """Restore a deleted version.

        Raises:
            Conflict: its name has that version again.
        """
        return Model.from_json(self._transport.json("POST", f"{model_url(model_id)}/restore"))

    def list_deleted_models(self, *, page: int | None = None, limit: int | None = None) -> Page[DeletedModel]:
        """Return a page of the trash, newest first."""
        return self._page(f"{MODELS}/deleted", "models", DeletedModel, {"page": page, "limit": limit})

    def batch(self, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make up to 1,000 changes in one request.

        A change is ``{"op": "tag", "id": …, "tags": […]}``; other operations are untag, status, delete,
        restore and alias. Each succeeds or fails alone: ``results`` lists the outcomes in the same order.
        """
        return self._transport.json("POST", f"{MODELS}/batch", data={"operations": list(operations)})

    def model_lineage(self, model_id: str, *, limit: int | None = None) -> dict[str, Any]:
        """Return ``ancestors``, ``descendants`` (up to ``limit``), ``training_job`` and ``datasets``."""
        return self._transport.json("GET", f"{model_url(model_id)}/lineage", query={"limit": limit})

    def compare_models(self, model_id: str, other_id: str) -> dict[str, Any]:
        """Return the differences from the first version to the second.

        These are ``fields`` (algorithm, framework, …), ``metrics``, ``hyperparameters``, ``tags``, ``files``,
        ``dataset_info`` and ``signature``, each with ``added``, ``removed`` and ``changed``; numeric metrics
        also have ``delta`` and ``relative_delta``.
        """
        other = model_url(other_id).removeprefix(MODELS)
        return self._transport.json("GET", f"{model_url(model_id)}/compare{other}")


def _registered(answer: Mapping[str, Any]) -> str:
    if not isinstance(answer.get("model_id"), str):
        raise UnexpectedAnswer("The service registered a model, but its response has no id.")
    return str(answer["model_id"])
