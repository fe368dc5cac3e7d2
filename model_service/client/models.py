"""Calls on models. Each ``model_id`` is an id, ``NAME@ALIAS``, ``NAME/v1.2`` or ``NAME/latest``, with or
without ``models:/`` in front."""

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
        """The id of the new version. ``name`` and ``algorithm`` are required; a missing version is chosen,
        the next minor one or, with ``breaking_changes``, the next major one.

        Other fields: framework, task_type, description, hyperparameters, metrics, dataset_info, signature,
        tags, status, parent_model_id, training_job_id, dataset_ids, created_by. They come in ``model_data``,
        as keywords, or in both; ``model_data`` may also be the name alone.

        Args:
            idempotency_key: with the same key and fields, another call within a day registers nothing new.

        Raises:
            Conflict: this name and version exist already.
            NotFound: the parent, the training job or a dataset is not there.
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
        """The id of a version made from this one: its fields, with ``changes`` in their place, and it as
        parent; with ``copy_files`` its files too. Raises: as ``register_model``.
        """
        data = {"copy_files": copy_files, "breaking_changes": breaking_changes, **changes}
        url = f"{model_url(model_id)}/versions"
        return _registered(self._transport.create(url, data, idempotency_key))

    def get_model(self, model_id: str) -> Model:
        return Model.from_json(self._transport.json("GET", model_url(model_id)))

    def update_model(self, model_id: str, *, revision: int | None = None, **changes: Any) -> Model:
        """Changes the fields that are given, each as a whole; None clears one that may be empty.

        Args:
            revision: change it only if this is its revision still, so that nobody's change is overwritten.

        Raises:
            PreconditionFailed: it has another revision; a first, lost answer may have been this change's.
            Conflict: its status does not become that one; ``details["allowed"]`` lists those it does.
        """
        headers = {} if revision is None else {"If-Match": f'"r{revision}"'}
        return Model.from_json(
            self._transport.json("PUT", model_url(model_id), data=changes, headers=headers)
        )

    def delete_model(self, model_id: str, *, purge: bool = False) -> dict[str, Any]:
        """Puts it into the trash; with ``purge`` removes it for good, from the trash too.

        The service's answer; NotFound may mean that a first, lost answer already was the deletion.
        """
        query = {"purge": True} if purge else None
        return self._transport.json("DELETE", model_url(model_id), query=query)

    def restore_model(self, model_id: str) -> Model:
        """Brings a deleted version back.

        Raises:
            Conflict: its name has that version again.
        """
        return Model.from_json(self._transport.json("POST", f"{model_url(model_id)}/restore"))

    def list_deleted_models(self, *, page: int | None = None, limit: int | None = None) -> Page[DeletedModel]:
        """The trash, newest first."""
        return self._page(f"{MODELS}/deleted", "models", DeletedModel, {"page": page, "limit": limit})

    def batch(self, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Up to 1,000 changes in one request: ``{"op": "tag", "id": …, "tags": […]}``, untag, status, delete,
        restore, alias. Each succeeds or fails alone: ``results`` says how, in their order.
        """
        return self._transport.json("POST", f"{MODELS}/batch", data={"operations": list(operations)})

    def model_lineage(self, model_id: str, *, limit: int | None = None) -> dict[str, Any]:
        """``ancestors``, ``descendants`` (up to ``limit``), ``training_job`` and ``datasets``."""
        return self._transport.json("GET", f"{model_url(model_id)}/lineage", query={"limit": limit})

    def compare_models(self, model_id: str, other_id: str) -> dict[str, Any]:
        """What differs from the first to the second: ``fields`` (algorithm, framework, …), ``metrics``,
        ``hyperparameters``, ``tags``, ``files``, ``dataset_info``, ``signature``, each with what was
        ``added``, ``removed`` and ``changed``; of numeric metrics with ``delta`` and ``relative_delta``."""
        other = model_url(other_id).removeprefix(MODELS)
        return self._transport.json("GET", f"{model_url(model_id)}/compare{other}")


def _registered(answer: Mapping[str, Any]) -> str:
    if not isinstance(answer.get("model_id"), str):
        raise UnexpectedAnswer("The service registered a model and did not say its id.")
    return str(answer["model_id"])
