"""Many small changes in one request. Each succeeds or fails independently."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from model_service.errors import InvalidField, ModelServiceError
from model_service.services.models.aliases import AliasService
from model_service.services.models.models import ModelService
from model_service.services.models.trash import TrashService
from model_service.storage.common.db import Document

MAX_TAGS = 100


@dataclass(frozen=True)
class Outcome:
    """Result of one operation: ``model_id`` if it succeeded, ``error`` if not."""

    model_id: Any = None
    error: ModelServiceError | None = None


class BatchService:
    """Operations with the same rules and permissions as the single routes."""

    def __init__(self, models: ModelService, aliases: AliasService, trash: TrashService) -> None:
        self._operations: dict[str, Callable[..., Any]] = {
            "tag": lambda ref, tags: models.change(ref, _tagged(tags)).after["_id"],
            "untag": lambda ref, tags: models.change(ref, _untagged(tags)).after["_id"],
            "status": lambda ref, status: models.update(ref, {"status": status})["_id"],
            "delete": lambda ref, purge: models.delete(ref, purge=purge),
            "restore": lambda ref: trash.restore(ref)["_id"],
            "alias": lambda ref, alias: aliases.set(ref, alias)["_id"],
        }

    def run(self, operations: Iterable[Document]) -> list[Outcome]:
        """Run the operations in order, each in its own transaction.

        Args:
            operations: ``{op, id, ...}``, with the further arguments of its ``op``.
        """
        return [self._run_one(dict(operation)) for operation in operations]

    def _run_one(self, arguments: Document) -> Outcome:
        carry_out, reference = self._operations[arguments.pop("op")], arguments.pop("id")
        try:
            return Outcome(model_id=carry_out(reference, **arguments))
        except ModelServiceError as error:
            return Outcome(error=error)


def _tagged(tags: list[str]) -> Callable[[Document], Document]:
    def edit(before: Document) -> Document:
        wanted = list(dict.fromkeys([*before["tags"], *tags]))
        if len(wanted) > MAX_TAGS:
            raise InvalidField.of("tags", f"a model has at most {MAX_TAGS}")
        return {"tags": wanted}

    return edit


def _untagged(tags: list[str]) -> Callable[[Document], Document]:
    return lambda before: {"tags": [tag for tag in before["tags"] if tag not in tags]}
