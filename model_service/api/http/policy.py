"""What a route asks of its caller, and in which class its requests are counted: declared at its view.

    @api.put("/<model_ref:model_id>/files/<path:path>")
    @policy(Permission.WRITE, rate="upload")
    def store_file(...)

An application that has a view without a policy does not start. A policy says what the caller must be allowed
in some namespace; whether it is allowed in the namespace of the very thing is for the services to ask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, cast

from flask import Flask, Request, current_app

from model_service.actor import Permission

View = TypeVar("View", bound=Callable[..., Any])
# How often: see RATE_LIMIT_... in the settings; "uncounted" is never refused.
RateClass = Literal["default", "read", "poll", "upload", "download", "parts", "login", "uncounted"]
READING = frozenset({"GET", "HEAD"})
# Pages of the API reference, which are views of a library.
_PAGES = frozenset({"openapi", "scalar"})


class Caller(Enum):
    """Who may call a route that needs no permission."""

    ANYONE = "anyone"  # probes, scrapers, readers of the documentation, and callers with a token in the body
    IDENTIFIED = "identified"  # the services look at what is the caller's own


@dataclass(frozen=True)
class Policy:
    """
    Args:
        everywhere: the permission must be held in all namespaces.
        rate: None: "read" for GET and HEAD, else "default".
    """

    needs: Permission | Caller
    everywhere: bool = False
    rate: RateClass | None = None


def policy(
    needs: Permission | Caller, *, everywhere: bool = False, rate: RateClass | None = None
) -> Callable[[View], View]:
    """Declare a view's policy; below the decorator that makes it a route."""

    def declare(view: View) -> View:
        cast(Any, view).policy = Policy(needs, everywhere, rate)
        return view

    return declare


def check_policies(app: Flask) -> None:
    """Raises: TypeError: a view has no policy."""
    missing = sorted(name for name in app.view_functions if policy_of(app, name) is None)
    if missing:
        raise TypeError(f"Add @policy(...) to {', '.join(missing)}: see {__name__}.")


def policy_of(app: Flask, endpoint: str) -> Policy | None:
    if endpoint.partition(".")[0] in _PAGES:
        return Policy(Caller.ANYONE)
    found: Policy | None = getattr(app.view_functions.get(endpoint), "policy", None)
    return found


def current_policy(request: Request) -> Policy | None:
    """None where the request has no route: it is answered by a 404 or 405."""
    return policy_of(current_app, request.endpoint) if request.endpoint else None


def is_open(request: Request) -> bool:
    """Whether no credential is asked for. Browsers ask what they may (OPTIONS) without one."""
    found = current_policy(request)
    return request.method == "OPTIONS" or (found is not None and found.needs is Caller.ANYONE)


def reads(request: Request) -> bool:
    """Whether the request changes nothing. A signed URL shows what its maker may read, whatever made it."""
    found = current_policy(request)
    return request.method in READING or (found is not None and found.needs is Permission.READ)
