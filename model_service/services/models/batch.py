"""Many small changes in one request. Each succeeds or fails independently."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from typing_extensions import TypedDict

from model_service.errors import InvalidField, ModelServiceError
from model_service.services.models.aliases import AliasService
from model_service.services.models.models import ModelService
from model_service.services.models.trash import TrashService
from model_service.states import ModelStatus
from model_service.storage.common.documents import Fields
from model_service.storage.models.documents import Model

MAX_TAGS = 100


@dataclass(frozen=True)
class Outcome:
    """Result of one operation: ``model_id`` if it succeeded, ``error`` if not."""

    model_id: str | None = None
    error: ModelServiceError | None = None


class Operation(TypedDict, total=False):
    """``op`` and ``id``, and the further arguments of its ``op``."""

    op: str
    id: str
    tags: list[str]
    status: ModelStatus
    purge: bool
    alias: str


class BatchService:
    """Operations with the same rules and permissions as the single routes."""

    def __init__(self, models: ModelService, aliases: AliasService, trash: TrashService) -> None:
        self._models = models
        self._aliases = aliases
        self._trash = trash

    def run(self, operations: Iterable[Operation]) -> list[Outcome]:
        """Run the operations in order, each in its own transaction."""
        return [self._run_one(operation) for operation in operations]

    def _run_one(self, operation: Operation) -> Outcome:
        try:
            return Outcome(model_id=self._changed(operation))
        except ModelServiceError as error:
            return Outcome(error=error)

    def _changed(self, operation: Operation) -> str:
        """Run one operation and return the id of the model."""
        reference = operation["id"]
        match operation["op"]:
            case "tag":
                changed = self._models.change(reference, _tagged(operation["tags"])).after
            case "untag":
                changed = self._models.change(reference, _untagged(operation["tags"])).after
            case "status":
                changed = self._models.update(reference, {"status": operation["status"]})
            case "delete":
                return self._models.delete(reference, purge=operation["purge"])
            case "restore":
                changed = self._trash.restore(reference)
            case "alias":
                changed = self._aliases.set(reference, operation["alias"])
            case unknown:
                raise ValueError(unknown)
        return str(changed["_id"])


def _tagged(tags: list[str]) -> Callable[[Model], Fields]:
    def edit(before: Model) -> Fields:
        wanted = list(dict.fromkeys([*before["tags"], *tags]))
        if len(wanted) > MAX_TAGS:
            raise InvalidField.of("tags", f"a model has at most {MAX_TAGS}")
        return {"tags": wanted}

    return edit


def _untagged(tags: list[str]) -> Callable[[Model], Fields]:
    return lambda before: {"tags": [tag for tag in before["tags"] if tag not in tags]}
