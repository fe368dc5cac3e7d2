"""The events of an export job, as server-sent events.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator

import orjson
from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import context, services
from model_service.api.http.policy import policy
from model_service.api.schemas.exports import JobPath
from model_service.errors import ServiceUnavailable
from model_service.services.exports.events import Event

api = APIBlueprint("export_events", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])

MIMETYPE = "text/event-stream"
_COME_BACK_MS = 2000


@api.get(
    "/jobs/<job_id>/events",
    responses={
        200: {"description": "Events: log, progress, ended", "content": {MIMETYPE: {}}},
        204: {"description": "The client already has the last event (its Last-Event-ID)"},
    },
)
@policy(Permission.READ, rate="poll")
def stream_export_events(path: JobPath) -> Response:
    """Follow an export job as server-sent events.

    Events: `log` with each line, `progress`, and `ended`, which is the last one. `Last-Event-ID` continues
    after that event; 204 if there is nothing more. A stream ends after ten minutes and can be continued.
    503 if too many streams are open.
    """
    sent = request.headers.get("Last-Event-ID", "")
    after = int(sent) if sent.isascii() and sent.isdecimal() and len(sent) < 10 else 0
    events = services().export_events.follow(path.job_id, after)
    if events is None:
        return Response(status=204)
    slots = context().streams
    slots.take()
    try:
        give_back = context().transfers.take()  # streams count as transfers, because each holds a thread
    except ServiceUnavailable:
        slots.give_back()
        raise
    response = Response(_encoded(events), mimetype=MIMETYPE)
    response.call_on_close(slots.give_back)
    response.call_on_close(give_back)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would buffer the events
    return response


def _encoded(events: Iterator[Event | None]) -> Iterator[bytes]:
    yield b"retry: %d\n\n" % _COME_BACK_MS
    for event in events:
        if event is None:
            yield b": still here\n\n"
        else:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (
                event.id,
                event.name.encode(),
                orjson.dumps(event.data),
            )
