"""The webhooks' events of deployments."""

from collections.abc import Iterator

from model_service.states import EVENT_TYPES
from model_service.storage.common.documents import Fields, NewEvent
from model_service.storage.common.outbox import new_event


def transitions(
    deployment_id: str,
    deployment: Fields,
    event: str,
    before: str | None,
    after: str | None,
    by: str | None,
) -> Iterator[NewEvent]:
    """Yield the event of an entry of the history; none if neither the status nor what is served changed.

    Args:
        deployment: its document, or what the history has of a deleted one.
        event, before, after: as in the history.
    """
    if before != after:
        happened = "created" if before is None else "deleted" if after is None else str(after)
    elif event in EVENT_TYPES["deployment"]:
        happened = event
    else:
        return
    model = str(deployment.get("model_name") or "")
    data = {
        "name": deployment.get("name"),
        "deployment_type": deployment.get("deployment_type"),
        "model_name": model,
        "model_version": deployment.get("model_version"),
        "revision": deployment.get("revision"),
        "user": deployment.get("user_id"),
    }
    path = f"/api/v1/deployments/{deployment_id}"
    yield new_event(
        "deployment", happened, deployment_id, model, path, before=before, after=after, by=by, data=data
    )
