"""Authentication and the permission check of the route. The result is bound to the request.

A signed URL is its own credential. Otherwise, with ENABLE_AUTH, a request needs API_KEY, an API key or a
session's token, in ``X-API-Key`` or as a bearer token. Without ENABLE_AUTH, every request has all
permissions.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import structlog
from flask import Flask, Response, g, request

from model_service.actor import ANONYMOUS, Actor, acting_as, actor
from model_service.api.http.browsers import require_no_other_page
from model_service.api.http.context import services
from model_service.api.http.policy import Caller, current_policy, is_open
from model_service.api.http.signed import signed_actor
from model_service.api.http.urls import canonical
from model_service.config import Settings
from model_service.errors import NotPermitted, Unauthorized
from model_service.wrong_keys import WrongKeys


def register_auth(app: Flask, settings: Settings) -> None:
    wrong_keys = WrongKeys.of(settings)

    @app.before_request
    def bind_actor() -> Response | None:
        if (redirected := canonical()) is not None:
            return redirected
        caller = signed_actor()
        if caller is None:
            if is_open(request):
                return None  # the service itself acts; the response contains no data of users
            if settings.enable_auth:
                caller = _identified(wrong_keys)
            else:
                require_no_other_page(request, settings)
                caller = ANONYMOUS
            _check(caller)
        stack = g.acting = ExitStack()
        stack.enter_context(acting_as(caller))
        structlog.contextvars.bind_contextvars(user=caller.name)
        return None

    @app.after_request
    def keep_while_streaming(response: Response) -> Response:
        if "acting" in g and response.is_streamed and not response.direct_passthrough:
            response.response = _Acting(actor(), response.iter_encoded())
        return response

    @app.teardown_request
    def unbind_actor(error: BaseException | None) -> None:
        stack: ExitStack | None = g.pop("acting", None)
        if stack is not None:
            stack.close()


def sent_credential() -> str:
    """Return the key or token of the request; empty if it has none."""
    key = request.headers.get("X-API-Key")
    if key:
        return key
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _identified(wrong_keys: WrongKeys | None) -> Actor:
    """Return the actor of the request. Raises: Unauthorized. RateLimited: too many wrong credentials."""
    credential = sent_credential()
    if not credential:
        raise Unauthorized(
            "This service requires a credential: send a key in the header 'X-API-Key', or a key or "
            "a session's token as a bearer token."
        )
    try:
        return services().principals.actor(credential)
    except Unauthorized:
        if wrong_keys is not None:
            wrong_keys.note(request.remote_addr or "")
        raise


def _check(caller: Actor) -> None:
    """Raises: NotPermitted: the actor has the permission in no namespace."""
    required = current_policy(request)
    if required is None or isinstance(required.needs, Caller) or required.needs in caller.everywhere:
        return
    if required.everywhere or not caller.may_somewhere(required.needs):
        raise NotPermitted(
            f"{caller.name!r} lacks the permission {required.needs.value!r}. An administrator can grant it.",
            permission=required.needs.value,
        )


class _Acting(Iterator[bytes]):
    """Iterates a response with the request's caller as the current actor: the request context has ended."""

    def __init__(self, caller: Actor, pieces: Iterable[bytes]) -> None:
        self._caller = caller
        self._pieces = pieces
        self._iterator = iter(pieces)

    def __next__(self) -> bytes:
        with acting_as(self._caller):
            return next(self._iterator)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            with acting_as(self._caller):
                close()
