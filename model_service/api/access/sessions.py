"""/api/v1/sessions"""

import structlog
from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.http.auth import sent_credential
from model_service.api.http.context import answer, services
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.access import Credentials, Done, Session

api = APIBlueprint("sessions", __name__, url_prefix="/api/v1/sessions", abp_tags=[Tag(name="access")])


@api.post("", responses={201: Session})
@policy(Caller.ANYONE, rate="login")
def open_session(body: Credentials) -> Response:
    """Sign in.

    Returns a token for `Authorization: Bearer`, valid for `SESSION_S` seconds. Attempts are limited for
    each address (429).
    """
    structlog.contextvars.bind_contextvars(address=request.remote_addr)
    opened = services().sessions.open(body.user, body.password.get_secret_value())
    session = Session(token=opened.token, user=opened.user, expires_at=opened.expires_at)
    return answer(session, 201)


@api.delete("/current", responses={200: Done})
@policy(Caller.IDENTIFIED)
def end_session() -> Response:
    """Sign out.

    The token of this request stops working.
    """
    services().principals.end_session(sent_credential())
    return answer(Done(message="Signed out"))
