"""The webhooks' events of model versions and of their aliases."""

from collections.abc import Iterator

from model_service.storage.common.documents import Fields, NewEvent
from model_service.storage.common.outbox import new_event
from model_service.storage.models.documents import UnlistedModel

# The actions of the audit log that are events by themselves.
_ACTIONS = {"created": "created", "restored": "restored"}


def transitions(
    action: str,
    before: UnlistedModel | None,
    after: UnlistedModel | None,
    details: Fields,
    *,
    by: str | None = None,
) -> Iterator[NewEvent]:
    """Yield the events of a change.

    Args:
        action, details: as in the audit log.
        before, after: None if the version is new, or removed.
        by: the user who made the change; default: the caller.
    """
    former = None if before is None else before["status"]
    present = None if after is None else after["status"]
    model = after or before
    assert model is not None
    if former != present:
        happened = "deleted" if present is None else _ACTIONS.get(action, present)
        yield _of_version(happened, model, former, present, by)
    had = set() if before is None else set(before.get("aliases", ()))
    has = set() if after is None else set(after.get("aliases", ()))
    for alias in sorted(has - had):
        yield _of_alias("set", alias, model, details.get("from_version"), model["version"], by)
    if action != "alias_taken":  # another version has the alias now, whose event says so
        for alias in sorted(had - has):
            yield _of_alias("removed", alias, model, model["version"], None, by)


def purged(model: UnlistedModel) -> NewEvent:
    return _of_version("purged", model, None, None, None)


def _of_version(
    happened: str, model: UnlistedModel, before: str | None, after: str | None, by: str | None
) -> NewEvent:
    return new_event(
        "version",
        happened,
        model["_id"],
        model["name"],
        _path(model),
        before=before,
        after=after,
        by=by,
        data={"name": model["name"], "version": model["version"]},
    )


def _of_alias(
    happened: str,
    alias: str,
    model: UnlistedModel,
    before: object,
    after: str | None,
    by: str | None,
) -> NewEvent:
    """Return an event of an alias, whose state is the version that has it."""
    return new_event(
        "alias",
        happened,
        f"{model['name']}@{alias}",
        model["name"],
        _path(model),
        before=None if before is None else str(before),
        after=after,
        by=by,
        data={
            "name": model["name"],
            "alias": alias,
            "version": model["version"],
            "model_id": model["_id"],
        },
    )


def _path(model: UnlistedModel) -> str:
    return f"/api/v1/models/{model['_id']}"
